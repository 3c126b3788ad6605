"use strict";
// Text from the model only ever becomes a text node.
const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") || "";
let messages = [];
let running = null;

function make(name, text, parent, more = {}) {
  const element = Object.assign(document.createElement(name), more);
  element.textContent = text;
  parent.append(element);
  return element;
}

async function call(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const options = body ? { method: "POST", headers, body: JSON.stringify(body), signal } : { headers };
  const response = await fetch(path, options);
  if (response.status === 401) {
    await login();
    return call(path, body, signal);
  }
  if (!response.ok) {
    const told = await response.json().catch(() => null);
    throw new Error(told?.error?.message || `${response.status} ${response.statusText}`);
  }
  return response;
}

function login() {
  return new Promise((done) => {
    $("login").addEventListener("close", () => {
      token = $("token").value;
      sessionStorage.setItem("token", token);
      done();
    }, { once: true });
    $("login").showModal();
  });
}

async function refresh() {
  const { data } = await (await call("v1/models")).json();
  const chosen = $("model").value;
  $("model").replaceChildren(...data.map(({ id }) => new Option(id, id)));
  if (data.some(({ id }) => id === chosen)) $("model").value = chosen;
  const champion = data.find(({ id }) => id === "champion");
  $("serving").textContent = champion.adapter
    ? `generation ${champion.generation} serves`
    : "the base model serves";
}

async function begin() {
  const { agents } = await (await call("v1/agents")).json();
  for (const { id, name, system } of agents) {
    $("agent").append(Object.assign(new Option(name, id), { system }));
  }
  await refresh();
  const { nights } = await (await call("v1/nights")).json();
  $("nights").hidden = !nights.length;
  for (const { id, outcome } of nights) {
    const item = make("li", "", $("nights").querySelector("ul"));
    const url = `v1/nights/${encodeURIComponent(id)}/report`;
    const link = make("a", `${id}: ${outcome}`, item, { href: url, target: "_blank", rel: "noreferrer" });
    // A link has no token: then the report is read here, and shown without its style.
    if (token) link.addEventListener("click", (event) => {
      event.preventDefault();
      readHere(url, item).catch((error) => { $("serving").textContent = error.message; });
    });
  }
}

async function readHere(url, item) {
  const page = new DOMParser().parseFromString(await (await call(url)).text(), "text/html");
  item.querySelector("pre")?.remove();
  make("pre", page.body.textContent, item);
}

function restart() {
  running?.abort();
  messages = [];
  $("log").replaceChildren();
  $("question").focus();
}

/// The objects of a streamed response.
async function* objects(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the answer ended too soon");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "data: [DONE]") return;
      if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  }
}

async function ask(question) {
  const agent = $("agent").selectedOptions[0];
  if (!messages.length && agent?.system) messages.push({ role: "system", content: agent.system });
  messages.push({ role: "user", content: question });
  const mine = make("article", "", $("log"), { className: "user" });
  make("p", question, mine);
  const article = make("article", "", $("log"), { className: "assistant" });
  const words = make("p", "", article);
  running = new AbortController();
  $("send").textContent = "Stop";
  try {
    const body = { model: $("model").value, messages, stream: true };
    if (agent?.value) body.metadata = { agent: agent.value };
    const response = await call("v1/chat/completions", body, running.signal);
    let first = null;
    let thoughts = null;
    for await (const object of objects(response)) {
      if (object.error) throw new Error(object.error.message);
      first ||= object;
      const delta = object.choices[0]?.delta || {};
      if (delta.reasoning_content) {
        if (!thoughts) {
          const details = make("details", "", article);
          article.prepend(details);
          make("summary", "Reasoning", details);
          thoughts = make("pre", "", details);
        }
        thoughts.append(delta.reasoning_content);
      }
      if (delta.content) words.append(delta.content);
      $("log").scrollTop = $("log").scrollHeight;
    }
    messages.push({ role: "assistant", content: words.textContent });
    if (first) judge(article, first, words.textContent);
  } catch (error) {
    if (error.name !== "AbortError") {
      article.className = "error";
      words.append(words.textContent ? `\n${error.message}` : error.message);
    }
    messages.push({ role: "assistant", content: words.textContent });
  } finally {
    running = null;
    $("send").textContent = "Send";
    refresh().catch(() => {});
  }
}

/// Thumbs and a correction below an answer.
function judge(article, { id, system_fingerprint }, text) {
  const footer = make("footer", "", article);
  make("span", `generation ${system_fingerprint.split("_").pop()}`, footer, { title: system_fingerprint });
  const note = document.createElement("span");
  const send = async (body) => {
    try {
      await call("v1/feedback", { id, ...body });
      note.textContent = "noted";
    } catch (error) {
      note.textContent = error.message;
    }
  };
  const thumbs = [["up", "Good"], ["down", "Bad"]].map(([rating, name]) => {
    const button = make("button", name, footer, { type: "button" });
    button.addEventListener("click", () => {
      thumbs.forEach((thumb) => { thumb.ariaPressed = String(thumb === button); });
      send({ rating });
    });
    return button;
  });
  const correct = make("button", "Correct", footer, { type: "button" });
  footer.append(note);
  correct.addEventListener("click", () => {
    correct.hidden = true;
    const form = make("form", "", article);
    const better = make("textarea", "", form, { value: text, rows: 3, ariaLabel: "What it should have said" });
    make("button", "Save the correction", form);
    better.focus();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.remove();
      correct.hidden = false;
      send({ rating: "down", correction: better.value });
    });
  });
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return running.abort();
  const question = $("question").value.trim();
  if (!question) return;
  $("question").value = "";
  ask(question);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("new").addEventListener("click", restart);
$("agent").addEventListener("change", restart);
begin().catch((error) => { $("serving").textContent = error.message; });
