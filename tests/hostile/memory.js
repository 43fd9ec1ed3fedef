// verdict: killed|memory|error|exited
const kept = [];
while (true) kept.push(new Array(1e6).fill(Math.random()));
