"""Streaming clients at `nightshift serve`, llama-server and mlx_lm.server, on the same weights and cores.

    python serving.py --model SmolLM2-135M-Instruct.Q4_1.gguf --nightshift BIN --llama-server BIN --work DIR

Run it in the environment that `peers.sh serve` makes. At 1, 8 and 32 clients (`--clients 1,8,32`) each client sends one
greedy `POST /v1/completions` with a short prompt of its own and reads a stream of at most 16 tokens (`--tokens`). Speed is tokens
streamed over the time from the first request to the end of the last answer, the median of three rounds (one of
mlx_lm.server, which needs minutes). The servers run one after the other, at each number of clients in turn, so
that other load on the machine meets all of them; the two that wait are stopped (SIGSTOP).
"""

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import convert
import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SUBJECTS = ["garden", "harbour", "library", "kitchen", "mountain", "railway", "village", "winter"]


def tokenizer(model, folder):
    """The tokenizer of a byte-level GGUF as mlx_lm reads it. SmolLM2's digits stand alone."""
    _, meta = mx.load(str(model), return_metadata=True)
    words = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE({word: at for at, word in enumerate(words)}, merges))
    digits, byte_level = pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    made.decoder = decoders.ByteLevel()
    kinds = meta["tokenizer.ggml.token_type"].tolist()
    control = [word for word, kind in zip(words, kinds) if kind == 3]
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in control])
    made.save(str(folder / "tokenizer.json"))
    end = words[meta["tokenizer.ggml.eos_token_id"].item()]
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end,
              "chat_template": meta["tokenizer.chat_template"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


class Server:
    """A server as a child process; stopped while another one is measured."""

    def __init__(self, name, command, log):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.name, self.log = name, log
        command = [part.replace("PORT", str(self.port)) for part in command]
        self.child = subprocess.Popen(command, stdout=open(log, "w"), stderr=subprocess.STDOUT)

    def wait(self):
        """Until it answers."""
        for _ in range(240):
            if self.child.poll() is not None:
                break
            try:
                ask(self.port, "Hello", 2)
                return
            except (OSError, http.client.HTTPException, RuntimeError):
                time.sleep(0.5)
        raise SystemExit(f"{self.name} does not answer: {Path(self.log).read_text()[-2000:]}")

    def signal(self, number):
        self.child.send_signal(number)


def ask(port, prompt, tokens):
    """Streams one completion: the seconds to its first token, and the number of its tokens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}}
    begun = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {response.read()[:500]}")
    first = used = None
    for line in response:
        data = line.strip().removeprefix(b"data: ")
        if data == b"[DONE]" or not data.startswith(b"{"):
            continue
        event = json.loads(data)
        if first is None and any(choice.get("text") for choice in event.get("choices", [])):
            first = time.monotonic() - begun
        used = (event.get("usage") or {}).get("completion_tokens", used)
    connection.close()
    if used is None or first is None:
        raise RuntimeError("expected a stream with text and its usage")
    return first, used


def together(server, clients, tokens, round):
    """So many clients at once: tokens a second, seconds to the first token, tokens, connections that were reset.

    A client whose connection is reset tries again: mlx_lm.server lets five wait."""
    seen, failed, resets = [], [], []

    def client(at):
        subject = SUBJECTS[at % len(SUBJECTS)]
        prompt = f"Once upon a time, in {subject} {clients * 10 + round}{at}, there"
        try:
            while True:
                try:
                    return seen.append(ask(server.port, prompt, tokens))
                except ConnectionResetError as error:
                    resets.append(error)
                    time.sleep(0.1)
        except Exception as error:  # noqa: BLE001, told below
            failed.append(error)

    threads = [threading.Thread(target=client, args=[at]) for at in range(clients)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    if failed:
        raise SystemExit(f"{server.name}: {len(failed)} of {clients} clients failed: {failed[0]}")
    total = sum(used for _, used in seen)
    return total / seconds, statistics.median(first for first, _ in seen), total, len(resets)


def measured(server, clients, tokens):
    server.signal(signal.SIGCONT)
    rounds = 1 if server.name == "mlx_lm.server" else 3
    found = [together(server, clients, tokens, round) for round in range(rounds)]
    server.signal(signal.SIGSTOP)
    speed, first, total, resets = (statistics.median(values) for values in zip(*found))
    print(json.dumps({"server": server.name, "clients": clients, "tokens_per_second": round(speed, 1),
                      "first_token_s": round(first, 3), "tokens": total, "resets": resets}), flush=True)
    return speed


def main():
    parser = argparse.ArgumentParser()
    for name in ["model", "nightshift", "llama-server", "work"]:
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--tokens", type=int, default=16)
    args = parser.parse_args()
    counts = [int(count) for count in args.clients.split(",")]
    folder = args.work / "mlx-model"
    convert.convert(args.model, folder)
    tokenizer(args.model, folder)
    cores, model = str(os.cpu_count()), str(args.model)
    print(json.dumps({"cores": cores, "load": os.getloadavg()[0], "tokens_each": args.tokens}), flush=True)
    commands = {
        "nightshift": [args.nightshift, "serve", "--model", model, "--port", "PORT"],
        "llama-server": [args.llama_server, "-m", model, "--port", "PORT", "-t", cores, "-np", "32", "-c", "32768"],
        "mlx_lm.server": [sys.executable, "-m", "mlx_lm", "server", "--model", str(folder), "--port", "PORT"],
    }
    servers = []
    try:
        for name, command in commands.items():
            servers.append(Server(name, [str(part) for part in command], args.work / f"{name}.log"))
            servers[-1].wait()
            servers[-1].signal(signal.SIGSTOP)
        table = [[measured(server, count, args.tokens) for server in servers] for count in counts]
    finally:
        for server in servers:
            server.child.kill()
            server.child.wait()
    print("\n| clients | nightshift | llama-server | mlx_lm.server | beside llama-server | beside mlx_lm.server |")
    print("|--:|--:|--:|--:|--:|--:|")
    for clients, (ours, llama, mlx) in zip(counts, table):
        print(f"| {clients} | {ours:.1f} | {llama:.1f} | {mlx:.1f} | {ours / llama:.2f} | {ours / mlx:.1f} |")


if __name__ == "__main__":
    main()
