#!/usr/bin/env python3
"""Looks at pages in Chromium: contrast (WCAG AA), overlapping text, content wider than the window; screenshots on request.

    python3 .ci/pages.py [--out FOLDER] PAGE...     PAGE is a file or an address; exits with 1 if something is found

Each page is opened at 390, 1024 and 1600 pixels, light and dark. Without `chromedriver` it says so and exits with 0.
"""

import argparse
import base64
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

WIDTHS = (390, 1024, 1600)
SCHEMES = ("light", "dark")

# Runs in the page. Text over a picture has no background that could be measured: counted apart.
LOOK = r"""
const seen = element => {
  const style = getComputedStyle(element), box = element.getBoundingClientRect();
  return style.visibility !== 'hidden' && +style.opacity > 0 && box.width > 1 && box.height > 1;
};
const channels = color => {
  const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
  return [r, g, b, a];
};
const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = element => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const style = getComputedStyle(at);
    if (style.backgroundImage.includes('gradient')) {
      // Each of its colours: the worst one counts.
      const stops = style.backgroundImage.match(/rgba?\([^)]*\)/g).map(channels);
      return stops.map(stop => layers.reduceRight((below, layer) => over(layer, below), stop));
    }
    if (style.backgroundImage !== 'none') return null;
    const color = channels(style.backgroundColor);
    if (color[3] > 0) layers.push(color);
    if (color[3] === 1) break;
  }
  const canvas = matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0, 1] : [255, 255, 255, 1];
  return [layers.reduceRight((below, layer) => over(layer, below), canvas)];
};
const opacity = element => element ? +getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
const found = [], boxes = [];
let texts = 0, unmeasured = 0;
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const node = walk.currentNode, words = node.textContent.trim(), element = node.parentElement;
  if (!words || ['SCRIPT', 'STYLE', 'TITLE', 'DESC', 'OPTION'].includes(element.tagName.toUpperCase()) || !seen(element)) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  const rects = [...range.getClientRects()].filter(box => box.width > 1 && box.height > 1);
  if (!rects.length) continue;
  texts += 1;
  const style = getComputedStyle(element), svg = element instanceof SVGElement;
  const color = channels(svg ? style.fill : style.color), back = behind(svg ? element.ownerSVGElement.parentElement : element);
  if (back) {
    color[3] *= opacity(element);
    const ratio = Math.min(...back.map(back => {
      const [one, two] = [light(over(color, back)), light(back)].sort((a, b) => b - a);
      return (one + 0.05) / (two + 0.05);
    })), size = parseFloat(style.fontSize);
    const needed = size >= 24 || size >= 18.66 && +style.fontWeight >= 700 ? 3 : 4.5;
    if (ratio < needed) found.push(`contrast ${ratio.toFixed(2)} < ${needed}: ${JSON.stringify(words.slice(0, 50))} (${element.tagName.toLowerCase()}.${element.getAttribute('class') || ''})`);
  } else unmeasured += 1;
  boxes.push(...rects.map(box => [box, words, element]));
}
const scrolls = element => {
  for (let at = element; at && at !== document.body; at = at.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(at).overflowX) && at.scrollWidth > at.clientWidth) return true;
  return false;
};
for (let i = 0; i < boxes.length; i++) {
  const [a, words, element] = boxes[i];
  if (!scrolls(element) && (a.right > innerWidth + 1 || a.left < -1) && element.tagName !== 'TEXT') found.push(`beside the window: ${JSON.stringify(words.slice(0, 50))}`);
  for (let j = i + 1; j < boxes.length; j++) {
    const [b, others, other] = boxes[j];
    if (element === other || element.contains(other) || other.contains(element)) continue;
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 2 && high > 0.4 * Math.min(a.height, b.height) && !scrolls(element) && !scrolls(other)) found.push(`overlap: ${JSON.stringify(words.slice(0, 40))} and ${JSON.stringify(others.slice(0, 40))}`);
  }
}
if (document.documentElement.scrollWidth > innerWidth + 1) found.push(`the page is ${document.documentElement.scrollWidth} pixels wide, the window ${innerWidth}`);
return {texts, unmeasured, found: [...new Set(found)], height: document.documentElement.scrollHeight};
"""


class Browser:
    """A headless Chromium, driven over WebDriver."""

    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = next(match[1] for line in self.driver.stdout if (match := re.search(r"started successfully on port (\d+)", line)))
        self.base = f"http://127.0.0.1:{port}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--hide-scrollbars"]
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}}
        self.base += "/" + self.send("POST", "", wanted)["sessionId"]

    def send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=300) as answer:
            return json.load(answer)["value"]

    def devtools(self, command, **parameters):
        return self.send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, address, width, scheme):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("POST", "/url", {"url": address})
        return self.send("POST", "/execute/sync", {"script": LOOK, "args": []})

    def picture(self, width, height):
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 8000), "scale": 1}
        return base64.b64decode(self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])

    def close(self):
        self.send("DELETE", "")
        self.driver.terminate()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pages", nargs="+")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if not shutil.which("chromedriver"):
        print("skipped: chromedriver is not installed, no page is looked at")
        return
    browser, problems = Browser(), 0
    for number, page in enumerate(args.pages, 1):
        address = page if "://" in page else Path(page).resolve().as_uri()
        for width in WIDTHS:
            for scheme in SCHEMES:
                seen = browser.look(address, width, scheme)
                print(f"{page} at {width}, {scheme}: {seen['texts']} texts, {seen['unmeasured']} over a picture, {len(seen['found'])} problems")
                print("".join(f"    {problem}\n" for problem in seen["found"]), end="")
                problems += len(seen["found"])
                if args.out:
                    args.out.mkdir(parents=True, exist_ok=True)
                    name = f"{number}-{Path(page).stem or 'page'}-{width}-{scheme}.png"
                    (args.out / name).write_bytes(browser.picture(width, seen["height"]))
    browser.close()
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
