// verdict: killed|memory|error|exited
const kept = [];
while (true) kept.push(Buffer.alloc(1 << 24, 1));
