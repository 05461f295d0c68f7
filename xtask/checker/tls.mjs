// A TLS client for the servers' API: any client certificate will do (authority never comes from it), and the server
// is whoever presents the certificate whose SHA-256 stands on-chain.
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import http2 from "node:http2";

const der = (tag, ...parts) => {
  const body = Buffer.concat(parts);
  const length =
    body.length < 128 ? Buffer.from([body.length])
    : body.length < 256 ? Buffer.from([0x81, body.length])
    : Buffer.from([0x82, body.length >> 8, body.length & 255]);
  return Buffer.concat([Buffer.from([tag]), length, body]);
};
const ECDSA_SHA256 = der(0x30, der(0x06, Buffer.from("2a8648ce3d040302", "hex")));
const COMMON_NAME = Buffer.from("550403", "hex");

/** A self-signed P-256 certificate for one run (RFC 5280), as PEM with its key. */
export function selfSigned() {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const attribute = der(0x30, der(0x06, COMMON_NAME), der(0x0c, Buffer.from("stkr-checker")));
  const name = der(0x30, der(0x31, attribute));
  const validity = der(0x30, der(0x17, Buffer.from("200101000000Z")), der(0x17, Buffer.from("491231235959Z")));
  const version = der(0xa0, der(0x02, Buffer.from([2])));
  const serial = der(0x02, Buffer.from([1]));
  const spki = publicKey.export({ type: "spki", format: "der" });
  const body = der(0x30, version, serial, ECDSA_SHA256, name, validity, name, spki);
  const signature = sign("sha256", body, privateKey);
  const certificate = der(0x30, body, ECDSA_SHA256, der(0x03, Buffer.from([0]), signature));
  // No empty last line: OpenSSL refuses it, and the length of an ECDSA signature varies.
  const base64 = certificate.toString("base64").match(/.{1,64}/g).join("\n");
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }),
  };
}

/** POSTs JSON over HTTP/2 to a pinned server; rejects on any other certificate, status or silence of 10 s. */
export function post(endpoint, fingerprint, path, body, identity) {
  return new Promise((resolve, reject) => {
    const session = http2.connect(endpoint, { ...identity, rejectUnauthorized: false, minVersion: "TLSv1.3" });
    const timer = setTimeout(() => fail(new Error(`${endpoint} did not answer in 10 s`)), 10_000);
    const fail = (error) => {
      clearTimeout(timer);
      session.destroy();
      reject(error);
    };
    session.on("error", fail);
    session.on("connect", () => {
      const seen = createHash("sha256").update(session.socket.getPeerCertificate().raw).digest("hex");
      if (seen !== fingerprint.replace(/^0x/, "")) return fail(new Error(`${endpoint} presents certificate ${seen}`));
      const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/json" });
      let status = 0;
      let text = "";
      stream.on("response", (headers) => (status = headers[":status"]));
      stream.setEncoding("utf8");
      stream.on("data", (chunk) => (text += chunk));
      stream.on("error", fail);
      stream.on("end", () => {
        clearTimeout(timer);
        session.close();
        if (status !== 200) return reject(new Error(`${endpoint}${path} answered ${status}: ${text.slice(0, 300)}`));
        resolve(JSON.parse(text));
      });
      stream.end(JSON.stringify(body));
    });
  });
}
