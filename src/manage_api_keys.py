#!/usr/bin/env python3
"""Manages the API keys in api_keys.json: document 001's script, standard library only.

The same program as `tollgate keyfile` (src/cli/keyfile.c): texts, exit codes, file format and lock are equal, so
that both may be used on one file at once. Exit codes: 0 done, 1 the file or the key stands in the way, 2 the command line is wrong.
The file is replaced whole (temporary file, fsync, rename), is 0600 from its first byte, and one wrong entry voids it.
"""

import contextlib
import errno
import fcntl
import hmac
import ipaddress
import json
import os
import re
import secrets
import stat
import string
import sys
import tempfile
import time

FILE_MAX = 1 << 20
KEYS_MAX = 100_000
KEY_MAX = 1024
NETWORKS_MAX = 4096
SHORT_KEY = 16
GENERATED = 32
LOCK_WAIT = 10.0
ALPHABET = string.ascii_letters + string.digits + "-_"
DEFAULT_NETWORKS = ["127.0.0.1", "localhost", "::1"]

USAGE = """\
usage: python src/manage_api_keys.py [--file FILE] COMMAND

Manages the API keys in api_keys.json (or $API_KEYS_FILE, or --file FILE).

  list [--mask]   list the keys; --mask shows at most their first 9 characters
  add KEY         add a key of your own
  remove KEY      remove a key
  generate        make a random key, add it and print it
  toggle-auth     switch whether external requests need a key

A KEY that begins with -- is given after a lone --.
"""


class Fault(Exception):
    """Something for people to read; the program ends with 1."""


class WrongUsage(Exception):
    """The command line is not understood; the program prints USAGE and ends with 2."""


def key_fault(raw: bytes):
    """What is wrong with a key, or None (tg_keyfile_key_fault)."""
    if not raw:
        return "is empty"
    if len(raw) > KEY_MAX:
        return "is longer than 1024 bytes"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return "is not valid UTF-8"
    if any(b < 0x20 or b == 0x7F for b in raw):
        return "has a control character"
    return None


def is_network(text: str) -> bool:
    """What tg_cidr_list_add accepts: an address, a network with a prefix length, or localhost."""
    if text.lower() == "localhost":
        return True
    host, slash, bits = text.partition("/")
    if slash and not re.fullmatch(r"0|[1-9][0-9]{0,2}", bits, re.ASCII):
        return False
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            return False
    if "%" in host or not host.isascii():
        return False
    try:
        ipaddress.ip_network(host + slash + bits, strict=False)
    except ValueError:
        return False
    return True


def kind_of(value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    return {dict: "an object", list: "an array", str: "a string"}.get(type(value), "a number")


def _members(pairs):
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("duplicate object key")
    if any("\0" in name for name in tree):
        raise ValueError("NUL byte in object key not supported")
    return tree


def _integer(text):
    # What the gate's parser cannot hold would void the file there.
    value = int(text) if len(text) <= 20 else None
    if value is None or not -(1 << 63) <= value < 1 << 63:
        raise ValueError("too big integer")
    return value


def _real(text):
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("real number overflow")
    return value


def _constant(text):
    raise ValueError("invalid token")


def _check_strings(value):
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("\\u0000 is not allowed")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("invalid Unicode surrogate") from None
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_strings(name)
            _check_strings(member)
    elif isinstance(value, list):
        for member in value:
            _check_strings(member)


def parse(raw: bytes, path: str) -> dict:
    """The checked object. No message quotes the file: it is made of secrets."""
    if len(raw) > FILE_MAX:
        raise Fault(f"{path}: larger than {FILE_MAX} bytes")
    try:
        tree = json.loads(raw.decode("utf-8"), object_pairs_hook=_members, parse_int=_integer, parse_float=_real,
                          parse_constant=_constant)
        _check_strings(tree)
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        column = e.start - (raw.rfind(b"\n", 0, e.start) + 1) + 1
        raise Fault(f"{path}:{line}:{column}: not valid JSON: unable to decode byte") from None
    except json.JSONDecodeError as e:
        raise Fault(f"{path}:{e.lineno}:{e.colno}: not valid JSON: {e.msg}") from None
    except RecursionError:
        raise Fault(f"{path}: not valid JSON: maximum parsing depth reached") from None
    except ValueError as e:
        raise Fault(f"{path}: not valid JSON: {e}") from None
    if not isinstance(tree, dict):
        raise Fault(f"{path}: must hold an object, not {kind_of(tree)}")
    require = tree.get("require_auth_for_external", True)
    if not isinstance(require, bool):
        raise Fault(f"{path}: require_auth_for_external must be true or false, not {kind_of(require)}")
    for name in ("valid_keys", "local_networks"):
        values = tree.get(name, [])
        if not isinstance(values, list):
            raise Fault(f"{path}: {name} must be an array of strings, not {kind_of(values)}")
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise Fault(f"{path}: {name}[{i}] must be a string, not {kind_of(value)}")
    keys = tree.setdefault("valid_keys", [])
    if len(keys) > KEYS_MAX:
        raise Fault(f"{path}: valid_keys has more than {KEYS_MAX} keys")
    for i, key in enumerate(keys):
        fault = key_fault(key.encode("utf-8"))
        if fault:
            raise Fault(f"{path}: valid_keys[{i}] {fault}")
    tree.setdefault("require_auth_for_external", True)
    networks = tree.setdefault("local_networks", list(DEFAULT_NETWORKS))
    count = 0
    for i, network in enumerate(networks):
        count += 2 if network.lower() == "localhost" else 1
        if count > NETWORKS_MAX:
            raise Fault(f"{path}: local_networks has more than {NETWORKS_MAX} networks")
        if not is_network(network):
            raise Fault(f"{path}: local_networks[{i}] is not an address, a network (CIDR) or localhost")
    return tree


def load(path: str):
    """The object, or None where there is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise Fault(f"{path}: cannot be read: {os.strerror(e.errno)}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Fault(f"{path}: cannot be read: not a regular file")
        with open(fd, "rb", closefd=False) as f:
            raw = f.read(FILE_MAX + 1)
    except OSError as e:
        raise Fault(f"{path}: cannot be read: {os.strerror(e.errno)}") from None
    finally:
        os.close(fd)
    return parse(raw, path)


def defaults() -> dict:
    return {"valid_keys": [], "require_auth_for_external": True, "local_networks": list(DEFAULT_NETWORKS)}


def real_target(path: str) -> str:
    """The file behind a symbolic link is what must be replaced, not the link."""
    try:
        return os.path.realpath(path, strict=True)
    except FileNotFoundError:
        return path


def new_owner(fd: int, path: str) -> None:
    """What root makes in somebody else's folder is made for him. A container's root often cannot."""
    with contextlib.suppress(OSError):
        folder = os.stat(os.path.dirname(path) or ".")
        if os.geteuid() == 0 and folder.st_uid != 0:
            os.fchown(fd, folder.st_uid, folder.st_gid)


@contextlib.contextmanager
def locked(path: str):
    """Writers hold this from load to save. The side file stays: removing it would let two writers hold two different ones."""
    try:
        name, flags = real_target(path) + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(name, flags | os.O_EXCL, 0o600)
            new_owner(fd, name)
        except FileExistsError:
            fd = os.open(name, flags, 0o600)
    except OSError as e:
        raise Fault(f"{path}: cannot be written: {path}.lock: {os.strerror(e.errno)}") from None
    try:
        end = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as e:
                if e.errno != errno.EWOULDBLOCK:
                    raise Fault(f"{path}: cannot be locked: {os.strerror(e.errno)}") from None
                if time.monotonic() >= end:
                    raise Fault(f"{path}: cannot be locked: another command has held it for 10 seconds") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def keep_owner(fd: int, target: str) -> None:
    """Whoever owned the file (the service's user, where root edits it) must be able to read the new one."""
    try:
        was = os.stat(target)
    except FileNotFoundError:
        new_owner(fd, target)
        return
    now = os.fstat(fd)
    if (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
        os.fchown(fd, was.st_uid, was.st_gid)


def save(tree: dict, path: str) -> None:
    if len(tree["valid_keys"]) > KEYS_MAX:
        raise Fault(f"{path}: cannot be written: more than {KEYS_MAX} keys")
    raw = json.dumps(tree, ensure_ascii=False, indent=2).encode("utf-8") + b"\n"
    if len(raw) > FILE_MAX:
        raise Fault(f"{path}: cannot be written: out of memory, or larger than {FILE_MAX} bytes")
    temp = None
    try:
        target = real_target(path)
        directory, name = os.path.split(target)
        fd, temp = tempfile.mkstemp(prefix=name + ".", dir=directory or ".")  # O_EXCL, 0600
        with os.fdopen(fd, "wb") as f:
            os.fchmod(fd, 0o600)
            keep_owner(fd, target)
            f.write(raw)
            f.flush()
            os.fsync(fd)
        os.rename(temp, target)
        temp = None
        fd = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as e:
            if e.errno != errno.EINVAL:  # file systems that cannot sync a directory are durable without
                raise
        finally:
            os.close(fd)
    except OSError as e:
        raise Fault(f"{path}: cannot be written: {os.strerror(e.errno)}") from None
    finally:
        if temp is not None:
            with contextlib.suppress(OSError):
                os.unlink(temp)


def same(key: str, raw: bytes) -> bool:
    return hmac.compare_digest(key.encode("utf-8"), raw)


def masked(key: str) -> str:
    raw = key.encode("utf-8")
    if len(raw) < SHORT_KEY:
        return "***"
    return "".join(chr(b) if 0x20 <= b < 0x7F else "?" for b in raw[:9]) + "..."


def cmd_list(tree, call):
    keys = tree["valid_keys"]
    print(f"API keys in {call['path']}: {len(keys)}")
    for i, key in enumerate(keys, 1):
        print(f"  {i}. {masked(key) if call['mask'] else key}")
    print(f"require_auth_for_external: {state(tree)}")
    print("local_networks: " + (", ".join(tree["local_networks"]) or "none"))


def state(tree) -> str:
    return "true" if tree["require_auth_for_external"] else "false"


def cmd_add(tree, call):
    raw = os.fsencode(call["key"])  # the bytes typed, whatever the locale
    fault = key_fault(raw)
    if not fault and raw.strip(b" \t") != raw:
        fault = "begins or ends with a space, which no header can carry"
    if fault:
        raise Fault(f"KEY {fault}")
    if any(same(key, raw) for key in tree["valid_keys"]):
        print(f"The key is already in {call['path']}; nothing was changed.")
        return
    tree["valid_keys"].append(raw.decode("utf-8"))
    save(tree, call["path"])
    if len(raw) < SHORT_KEY:
        print(f"warning: the key is shorter than {SHORT_KEY} characters; `generate` makes a strong one", file=sys.stderr)
    print(f"Added the key to {call['path']}.")


def cmd_remove(tree, call):
    raw = os.fsencode(call["key"])
    kept = [key for key in tree["valid_keys"] if not same(key, raw)]
    if len(kept) == len(tree["valid_keys"]):
        raise Fault(f"{call['path']}: has no such key")
    tree["valid_keys"] = kept
    save(tree, call["path"])
    print(f"Removed the key from {call['path']}.")


def random_key() -> str:
    """Never begins with '-', so that no command line takes it for an option."""
    return secrets.choice(ALPHABET.replace("-", "")) + "".join(secrets.choice(ALPHABET) for _ in range(GENERATED - 1))


def cmd_generate(tree, call):
    key = random_key()
    tree["valid_keys"].append(key)
    save(tree, call["path"])
    print(f"Generated API key: {key}")
    print(f"Added the key to {call['path']}.")


def cmd_toggle(tree, call):
    tree["require_auth_for_external"] = not tree["require_auth_for_external"]
    save(tree, call["path"])
    print(f"require_auth_for_external: {state(tree)}")
    print("External requests need a key." if tree["require_auth_for_external"] else "External requests are let in WITHOUT a key.")


# name: (takes a key, writes, what it does)
COMMANDS = {
    "list": (False, False, cmd_list),
    "add": (True, True, cmd_add),
    "remove": (True, True, cmd_remove),
    "generate": (False, True, cmd_generate),
    "toggle-auth": (False, True, cmd_toggle),
}


def read_args(argv):
    """Words up to a lone "--" may be options; the first other word is the command, the second its key."""
    call = {"path": os.environ.get("API_KEYS_FILE") or "api_keys.json", "command": None, "key": None, "mask": False, "help": False}
    words = []
    options = True
    rest = iter(argv)
    for a in rest:
        if options and a == "--":
            options = False
        elif options and a in ("--help", "-h"):
            call["help"] = True
        elif options and a == "--mask":
            call["mask"] = True
        elif options and a == "--file":
            call["path"] = next(rest, "")
        elif options and a.startswith("--file="):
            call["path"] = a[len("--file="):]
        elif options and a.startswith("--"):
            raise WrongUsage
        else:
            words.append(a)
    if len(words) > 2 or not call["path"]:
        raise WrongUsage
    call["command"], call["key"] = (words + [None, None])[:2]
    return call


def run(argv) -> None:
    call = read_args(argv)
    if call["help"]:
        print(USAGE, end="")
        return
    if call["command"] not in COMMANDS:
        raise WrongUsage
    takes_key, writes, command = COMMANDS[call["command"]]
    if takes_key != (call["key"] is not None) or (call["mask"] and writes):
        raise WrongUsage
    path = call["path"]
    with locked(path) if writes else contextlib.nullcontext():
        tree = load(path)
        if tree is None:
            tree = defaults()
            if not writes:
                print(f"{path} does not exist yet; the first key added creates it.", file=sys.stderr)
        command(tree, call)


def main(argv) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")  # keys and paths as they are, whatever the locale
    try:
        run(argv)
        sys.stdout.flush()
    except WrongUsage:
        print(USAGE, end="", file=sys.stderr)
        return 2
    except Fault as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except OSError:
        print("error: standard output: cannot be written", file=sys.stderr)
        # What is left in the buffer cannot be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
