// verdict: error EACCES|ENOENT
process.getBuiltinModule('fs').writeFileSync(OUTSIDE + '/new.txt', 'x');
