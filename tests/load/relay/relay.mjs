// Reference relay of tests/bench: chat rooms over WebSockets and Redis pub/sub. It stores, numbers and checks nothing, and
// answers the calls of the load generator. usage: node relay.mjs PORT REDIS_PORT
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { Redis } from "ioredis";
import { WebSocketServer } from "ws";

const [port, redisPort] = process.argv.slice(2).map(Number);
const publisher = new Redis(redisPort, "127.0.0.1");
const subscriber = new Redis(redisPort, "127.0.0.1");

/** By room: its open sockets, and the promise of the subscription to it. */
const rooms = new Map();

subscriber.on("message", (room, message) => {
    for (const socket of rooms.get(room)?.sockets ?? []) socket.send(message);
});

function join(room, socket) {
    const joined = rooms.get(room);
    if (joined) {
        joined.sockets.add(socket);
        return joined.subscribed;
    }
    const subscribed = subscriber.subscribe(room);
    rooms.set(room, { sockets: new Set([socket]), subscribed });
    return subscribed;
}

function leave(room, socket) {
    const { sockets } = rooms.get(room);
    sockets.delete(socket);
    if (sockets.size === 0) {
        rooms.delete(room);
        subscriber.unsubscribe(room);
    }
}

function relay(room, data) {
    const { type, is_host, message, datetime, id } = JSON.parse(data);
    publisher.publish(room, JSON.stringify({ type, is_host, message, datetime, id }));
}

/** Responses to the requests of the load generator. */
const answers = {
    "GET /health/ready": () => ({}),
    "POST /api/auth/login/": () => ({
        accessToken: "token",
        accessKey: "key",
        secretKey: "key",
        serviceDomain: "shop.example",
        uuid: "host",
    }),
    "POST /api/chat/": () => ({ name: randomUUID() }),
};

const http = createServer((request, response) => {
    const answer = answers[`${request.method} ${request.url}`];
    request.resume();
    response.writeHead(answer ? 200 : 404, { "Content-Type": "application/json" });
    response.end(JSON.stringify(answer?.()));
});

const server = new WebSocketServer({ server: http, perMessageDeflate: false, autoPong: false });
server.on("connection", (socket, request) => {
    const room = request.url.split("?")[0];
    const subscribed = join(room, socket);
    socket.on("message", (data) => relay(room, data));
    // From this answer on, the load generator expects all messages of the room.
    socket.on("ping", (data) => subscribed.then(() => socket.pong(data)));
    socket.on("close", () => leave(room, socket));
    socket.on("error", (error) => console.error(`socket failed: ${error.message}`));
});
http.listen(port, "127.0.0.1", 8192);
