// verdict: output
const fs = process.getBuiltinModule('fs');
while (true) {
  try { fs.writeSync(1, 'x'.repeat(65536)); } catch (error) { if (error.code !== 'EAGAIN') throw error; }
}
