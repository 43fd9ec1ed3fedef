# verdict: output
while True:
    print("x" * 65536)
