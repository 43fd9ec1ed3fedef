# verdict: error PermissionError|FileNotFoundError
open("/proc/self/oom_score_adj", "w").write("-1000")
