# verdict: memory
x = bytearray(1 << 31)
