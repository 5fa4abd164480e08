"""Certificates made anew, which nobody trusts who is not told to."""

import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec import Struct


class Certificate(Struct, frozen=True):
    """A certificate in PEM, which is its own authority, and its key."""

    path: Path
    key_path: Path


def self_signed(folder: Path, names: str = "IP:127.0.0.1") -> Certificate:
    """cert.pem and key.pem in a folder, for `names`, good for 30 days. Skips where openssl is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    command += ["-subj", "/CN=here", "-addext", f"subjectAltName={names}"]
    command += ["-out", str(made.path), "-keyout", str(made.key_path)]
    subprocess.run(command, check=True, capture_output=True)
    return made
