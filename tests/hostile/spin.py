# verdict: cpu|timeout
# limits: short
while True:
    pass
