// verdict: error|exited|failed|timeout
// limits: short
const socket = process.getBuiltinModule('net').connect(9, '127.0.0.1');
socket.on('connect', () => console.log('connected'));
throw 'not connected';
