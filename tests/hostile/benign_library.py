# verdict: passed
import hashlib
from dataclasses import dataclass


@dataclass
class Point:
    x: "int"


assert Point(1).x == 1
assert hashlib.sha256(b"").hexdigest().startswith("e3b0")
if __name__ == "__main__":
    raise SystemExit("a demonstration is not run")
