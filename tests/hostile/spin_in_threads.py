# verdict: cpu|timeout
# limits: short
# checks: import time; time.sleep(99)
import signal
import threading

signal.signal(signal.SIGXCPU, signal.SIG_IGN)
for _ in range(4):
    threading.Thread(target=lambda: list(iter(int, 1))).start()
