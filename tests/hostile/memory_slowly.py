# verdict: memory
x = []
while True:
    x.append(bytearray(1 << 22))
