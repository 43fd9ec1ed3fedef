# verdict: passed
import os

assert set(os.environ) <= {"PATH", "HOME", "TMPDIR", "LANG", "OPENSSL_CONF", "PWD"}, os.environ
assert "SECRET" not in str(os.environ)
