// verdict: error EACCES|ENOENT
process.binding('fs');
process.mainModule;
const fs = process.getBuiltinModule ? process.getBuiltinModule('fs') : null;
if (!fs) throw new Error('EACCES: no fs at all');
console.log(fs.readFileSync('/etc/passwd', 'utf8'));
