// verdict: passed
const made = process.getBuiltinModule('child_process').spawnSync('/bin/sh', ['-c', 'echo hello']);
if (!made.error) throw 'a process was made';
