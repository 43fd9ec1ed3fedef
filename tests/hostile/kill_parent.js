// verdict: error EPERM
process.kill(process.ppid, 'SIGKILL');
