# verdict: disk|error|timeout|cpu
# limits: short
n = 0
while True:
    n += 1
    with open(f"f{n}", "wb") as f:
        f.write(b"0" * 4096)
