# verdict: cpu
# limits: cpu
while True:
    pass
