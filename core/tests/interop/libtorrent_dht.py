#!/usr/bin/env python3
"""Sessions of the real libtorrent on loopback, told what to do over a TCP connection to the test that started this.

One command a line, one answer a line:
  start COUNT PREFIX        sessions at PREFIX1, PREFIX2, ... that know each other -> their addresses
  join ADDR...              every session also learns of these nodes               -> ok
  put N SEED KEY SALT VALUE session N stores a mutable item (hexadecimal)          -> number of nodes that stored it
  get N KEY SALT            session N looks for a mutable item                     -> SEQUENCE VALUE, or none
"""
import hashlib
import socket
import sys
import time

import libtorrent as lt

SETTINGS = {
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_bootstrap_nodes": "",
    # Loopback sessions share a /24 and have ids that fit no address: without these, tables stay empty.
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_enforce_node_id": False,
    "dht_prefer_verified_node_ids": False,
    "dht_ignore_dark_internet": False,
    "dht_block_ratelimit": 100000,
    "dht_upload_rate_limit": 10000000,
    "alert_mask": lt.alert.category_t.dht_notification | lt.alert.category_t.status_notification
    | lt.alert.category_t.error_notification,
}


def session(ip):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((ip, 0))
        port = probe.getsockname()[1]
    return lt.session({**SETTINGS, "listen_interfaces": f"{ip}:{port}"}), ip, port


def wait_for(ses, kind, accept, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ses.wait_for_alert(100)
        for alert in ses.pop_alerts():
            if isinstance(alert, kind) and accept(alert):
                return alert
    return None


def expanded(seed):
    """libtorrent's form of a secret key: SHA-512 of the seed, clamped."""
    key = bytearray(hashlib.sha512(seed).digest())
    key[0] &= 248
    key[31] &= 63
    key[31] |= 64
    return bytes(key)


def item_of(alert):
    item = alert.item
    if isinstance(item, dict) and "value" in item:
        return item.get("value"), item.get("seq", getattr(alert, "seq", 0))
    return item, alert.seq


def get(ses, key, salt):
    ses.pop_alerts()
    for _ in range(3):
        ses.dht_get_mutable_item(key, salt)
        best, ended = None, False
        end = time.monotonic() + 8
        while time.monotonic() < end and not ended:
            ses.wait_for_alert(100)
            for alert in ses.pop_alerts():
                if not isinstance(alert, lt.dht_mutable_item_alert) or bytes(alert.key) != key:
                    continue
                value, seq = item_of(alert)
                if isinstance(value, bytes) and value and (best is None or seq > best[0]):
                    best = (seq, value)
                # The last alert of a search says so; those before it show what was seen on the way.
                ended = ended or alert.authoritative
        if best:
            return f"{best[0]} {best[1].hex()}"
    return "none"


def main():
    control = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    lines = control.makefile("r")
    sessions = []
    for line in lines:
        command, *args = line.split()
        if command == "start":
            new = [session(f"{args[1]}{n + 1}") for n in range(int(args[0]))]
            sessions.extend(new)
            for ses, _, port in new:
                for _, other_ip, other_port in new:
                    if other_port != port:
                        ses.add_dht_node((other_ip, other_port))
            time.sleep(3)
            answer = " ".join(f"{ip}:{port}" for _, ip, port in new)
        elif command == "join":
            for ses, _, _ in sessions:
                for addr in args:
                    ip, port = addr.rsplit(":", 1)
                    ses.add_dht_node((ip, int(port)))
            time.sleep(2)
            answer = "ok"
        elif command == "put":
            ses, seed = sessions[int(args[0])][0], bytes.fromhex(args[1])
            key, salt, value = (bytes.fromhex(arg) for arg in args[2:5])
            ses.dht_put_mutable_item(expanded(seed), key, value, salt)
            alert = wait_for(ses, lt.dht_put_alert, lambda a: bytes(a.public_key) == key, 20)
            answer = str(alert.num_success if alert else 0)
        elif command == "get":
            answer = get(sessions[int(args[0])][0], bytes.fromhex(args[1]), bytes.fromhex(args[2]))
        else:
            answer = "unknown"
        control.sendall((answer + "\n").encode())


main()
