// socket.io with its cluster adapter, set up as the adapter's documentation has it. Transports are
// WebSocket only, so that no sticky sessions are needed.

const cluster = require("node:cluster");
const { createServer } = require("node:http");
const { Server } = require("socket.io");
const { createAdapter, setupPrimary } = require("@socket.io/cluster-adapter");

const workers = Number(process.env.WORKERS);

if (cluster.isPrimary) {
  setupPrimary();
  // Buffers between processes.
  cluster.setupPrimary({ serialization: "advanced" });
  for (let i = 0; i < workers; i++) {
    cluster.fork();
  }
} else {
  const httpServer = createServer();
  const io = new Server(httpServer, {
    transports: ["websocket"],
    adapter: createAdapter(),
    // The load client does not answer the pings of Engine.IO; no run is as long as this.
    pingInterval: 3_600_000,
  });
  io.on("connection", (socket) => {
    socket.on("message", (message) => io.emit("message", message));
  });
  httpServer.listen(Number(process.env.PORT), "127.0.0.1");
}
