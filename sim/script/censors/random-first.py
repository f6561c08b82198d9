#!/usr/bin/env python3
"""Trains random-first.onnx: does a first packet look like random bytes?

    pip install numpy==2.4.6 onnx==1.23.2
    python3 random-first.py            # writes random-first.onnx beside itself and prints how well it does

Everything follows from one seed. The packets are made up here: random bytes (bare, behind a printable beginning, behind the
first bytes of TLS) against ClientHellos (with and without GREASE, padding, post-quantum keys), HTTP requests, SSH banners and
DNS over TCP. It is an example of how a model is put beside a script, not a measurement of any censor.

Inputs, all whole numbers as the script has them: length; entropy and bits set in thousandths of a bit a byte; printable bytes in
thousandths; bytes by their high half, in thousandths, sixteen of them. The network is 20-8-1.
"""

import math
import pathlib
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 20260101
TRAIN, HELD_OUT = 12_000, 4_000
SEEN_MAX = 2048

rng = np.random.default_rng(SEED)


def random_bytes(n):
    return rng.integers(0, 256, int(n), dtype=np.uint8).tobytes()


def pick(*choices):
    return choices[int(rng.integers(len(choices)))]


def word(low, high):
    letters = b"abcdefghijklmnopqrstuvwxyz0123456789-"
    return bytes(letters[int(i)] for i in rng.integers(0, len(letters), int(rng.integers(low, high))))


def name():
    return b".".join([word(2, 12), word(3, 16), pick(b"com", b"org", b"net", b"example", b"ir", b"cn")])


def looks_random():
    body = random_bytes(rng.integers(40, 1461))
    kind = int(rng.integers(4))
    if kind == 0:
        body = bytes(rng.integers(0x20, 0x7F, int(rng.integers(6, 13)), dtype=np.uint8)) + body
    elif kind == 1:
        body = b"\x16\x03" + pick(b"\x01", b"\x03") + struct.pack(">H", len(body)) + body
    return body[:1460]


def hello():
    def vector(size, body):
        return len(body).to_bytes(size, "big") + body

    def extension(number, body):
        return struct.pack(">H", number) + vector(2, body)

    grease = bytes([int(rng.integers(16)) * 16 + 10] * 2)
    suites = [struct.pack(">H", int(s)) for s in rng.permutation(
        [0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x9C, 0x9D, 0x2F, 0x35]
    )[: int(rng.integers(3, 16))]]
    keys = vector(2, b"\x00\x1d" + vector(2, random_bytes(32)))
    if rng.random() < 0.4:
        keys = vector(2, b"\x11\xec" + vector(2, random_bytes(1216)) + b"\x00\x1d" + vector(2, random_bytes(32)))
    extensions = [
        extension(0, vector(2, b"\x00" + vector(2, name()))),
        extension(10, vector(2, b"\x11\xec\x00\x1d\x00\x17\x00\x18")),
        extension(11, vector(1, b"\x00")),
        extension(13, vector(2, bytes.fromhex("0403080404010503080505010806060102 01".replace(" ", "")))),
        extension(16, vector(2, vector(1, b"h2") + vector(1, b"http/1.1"))),
        extension(23, b""),
        extension(35, random_bytes(pick(0, 0, 0, 192))),
        extension(43, vector(1, b"\x03\x04\x03\x03")),
        extension(45, b"\x01\x01"),
        extension(51, keys),
        extension(5, b"\x01\x00\x00\x00\x00"),
        extension(18, b""),
    ]
    extensions = [extensions[int(i)] for i in rng.permutation(len(extensions))[: int(rng.integers(4, 13))]]
    if rng.random() < 0.5:
        suites.insert(0, grease)
        extensions.insert(0, grease + b"\x00\x00")
    if rng.random() < 0.3:
        extensions.append(extension(0xFE0D, random_bytes(rng.integers(150, 280))))
    if rng.random() < 0.3:
        extensions.append(extension(21, bytes(int(rng.integers(1, 220)))))
    body = b"\x03\x03" + random_bytes(32) + vector(1, random_bytes(pick(0, 32, 32)))
    body += vector(2, b"".join(suites)) + vector(1, b"\x00") + vector(2, b"".join(extensions))
    return (b"\x16\x03\x01" + vector(2, b"\x01" + vector(3, body)))[:1460]


def http():
    lines = [pick(b"GET", b"POST", b"HEAD", b"PUT") + b" /" + word(0, 60) + b" HTTP/1.1", b"Host: " + name()]
    extra = [
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 " + word(0, 30),
        b"Accept: */*",
        b"Accept-Language: en-US,en;q=0.5",
        b"Cookie: " + word(8, 200),
        b"Connection: keep-alive",
        b"Content-Length: " + str(int(rng.integers(10_000))).encode(),
    ]
    lines += [extra[int(i)] for i in rng.permutation(len(extra))[: int(rng.integers(0, 7))]]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def ssh():
    banner = b"SSH-2.0-" + pick(b"OpenSSH_", b"libssh_", b"PuTTY_Release_", b"Go") + word(2, 20)
    return banner + pick(b"", b" Debian-" + word(3, 12)) + b"\r\n"


def dns():
    labels = b"".join(bytes([len(part)]) + part for part in name().split(b"."))
    query = random_bytes(2) + bytes.fromhex("01000001000000000000") + labels + b"\x00\x00\x01\x00\x01"
    return struct.pack(">H", len(query)) + query


def features(packet):
    """As `packet.len`, `.entropy`, `.ones`, `.printable` and `.halves` of a script."""
    seen = np.frombuffer(packet[:SEEN_MAX], np.uint8)
    counts = np.bincount(seen, minlength=256)
    shares = counts[counts > 0] / len(seen)
    ones = int(np.unpackbits(seen).sum())
    printable = int(((seen >= 0x20) & (seen <= 0x7E)).sum())
    halves = np.bincount(seen >> 4, minlength=16) * 1000 // len(seen)
    first = [
        len(packet),
        math.floor(-(shares * np.log2(shares)).sum() * 1000),
        ones * 1000 // len(seen),
        printable * 1000 // len(seen),
    ]
    return first + halves.tolist()


def packets(n):
    rows, labels = [], []
    while len(rows) < n:
        random = len(rows) % 2 == 0
        packet = looks_random() if random else pick(hello, hello, http, ssh, dns)()
        # The script asks about no shorter ones.
        if len(packet) >= 32:
            rows.append(features(packet))
            labels.append(random)
    return np.array(rows, np.float64), np.array(labels, np.float64)


def train(rows, labels, hidden=8, steps=1500, rate=0.02):
    mean, spread = rows.mean(0), rows.std(0) + 1e-9
    x = (rows - mean) / spread
    weights = [
        rng.normal(0, 0.3, (x.shape[1], hidden)), np.zeros(hidden),
        rng.normal(0, 0.3, (hidden, 1)), np.zeros(1),
    ]
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for step in range(1, steps + 1):
        h = np.maximum(x @ weights[0] + weights[1], 0)
        p = 1 / (1 + np.exp(-(h @ weights[2] + weights[3])[:, 0]))
        d = ((p - labels) / len(x))[:, None]
        dh = (d @ weights[2].T) * (h > 0)
        slopes = [x.T @ dh, dh.sum(0), h.T @ d, d.sum(0)]
        for i, slope in enumerate(slopes):
            slope = slope + 1e-4 * weights[i]
            first[i] = 0.9 * first[i] + 0.1 * slope
            second[i] = 0.999 * second[i] + 0.001 * slope**2
            weights[i] = weights[i] - rate * (first[i] / (1 - 0.9**step)) / (
                np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8
            )
    # What was done to the inputs goes into the first layer, so that the model takes them as the script has them.
    weights[1] = weights[1] - (mean / spread) @ weights[0]
    weights[0] = weights[0] / spread[:, None]
    return [w.astype(np.float32) for w in weights]


def score(weights, rows):
    h = np.maximum(rows.astype(np.float32) @ weights[0] + weights[1], 0)
    return 1 / (1 + np.exp(-np.clip(h @ weights[2] + weights[3], -60, 60)[:, 0]))


def write(weights, path):
    names = ["w1", "b1", "w2", "b2"]
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "w1", "b1"], ["hidden"], "hidden"),
            helper.make_node("Relu", ["hidden"], ["active"], "active"),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["logit"], "logit"),
            helper.make_node("Sigmoid", ["logit"], ["score"], "score"),
        ],
        "random-first",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, len(weights[0])])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(w, n) for w, n in zip(weights, names)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="random-first.py")
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path.stat().st_size


def main():
    weights = train(*packets(TRAIN))
    rows, labels = packets(HELD_OUT)
    said = score(weights, rows) >= 0.9
    size = write(weights, pathlib.Path(__file__).with_suffix(".onnx"))
    hit, wrong = said[labels == 1].mean(), said[labels == 0].mean()
    print(f"{size} bytes; of {HELD_OUT} held-out packets, at a score of 0.9: {hit:.4f} of the random ones, {wrong:.4f} of the others")


main()
