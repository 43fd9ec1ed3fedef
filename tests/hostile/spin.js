// verdict: cpu|timeout
// limits: short
while (true);
