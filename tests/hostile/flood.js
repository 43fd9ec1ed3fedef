// verdict: output
const fs = process.getBuiltinModule('fs');
while (true) fs.writeSync(1, 'x'.repeat(65536));
