// A SIP user agent over WebSocket (RFC 3261, RFC 7118) for one account and one call at a time.
// It knows nothing of the page: media comes as an object with offer(), answer(sdp), accept(sdp, isEarly) and close().

const T1 = 500;
const T2 = 4000;
const TIMEOUT = 64 * T1;
const EXPIRES = 300;
const PING_EVERY = 30_000;
const PONG_WITHIN = 10_000;
const CONNECT_WITHIN = 10_000;
const LONGEST_DELAY = 30;
const ALLOW = 'INVITE, ACK, CANCEL, BYE, OPTIONS';
const SUPPORTED = ['outbound', 'path'];
const KNOWN_METHODS = ['REGISTER', 'SUBSCRIBE', 'NOTIFY', 'PUBLISH', 'MESSAGE', 'INFO', 'UPDATE', 'PRACK', 'REFER'];
const COMPACT = {
  a: 'accept-contact', b: 'referred-by', c: 'content-type', d: 'request-disposition', e: 'content-encoding', f: 'from',
  i: 'call-id', j: 'reject-contact', k: 'supported', l: 'content-length', m: 'contact', o: 'event', r: 'refer-to',
  s: 'subject', t: 'to', u: 'allow-events', v: 'via', x: 'session-expires', y: 'identity',
};
const LISTS = ['via', 'contact', 'route', 'record-route', 'path', 'require', 'supported', 'warning', 'reason'];
const SPELLED = { 'call-id': 'Call-ID', cseq: 'CSeq' };

const random = (bytes) => hexOf(crypto.getRandomValues(new Uint8Array(bytes)));
const hexOf = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
const utf8 = (text) => new TextEncoder().encode(text);

// ---- messages

// Splits at a separator that stands neither in quotes nor in angle brackets.
function split(text, separator) {
  const parts = [''];
  let isQuoted = false;
  let isBracketed = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (isQuoted && char === '\\') {
      parts[parts.length - 1] += char + (text[++at] ?? '');
      continue;
    }
    if (char === '"' && !isBracketed) isQuoted = !isQuoted;
    else if (!isQuoted && char === '<') isBracketed = true;
    else if (!isQuoted && char === '>') isBracketed = false;
    if (char === separator && !isQuoted && !isBracketed) parts.push('');
    else parts[parts.length - 1] += char;
  }
  return parts.map((part) => part.trim()).filter(Boolean);
}

const unquoted = (text) => (/^".*"$/s.test(text) ? text.slice(1, -1).replace(/\\(.)/gs, '$1') : text);
const quoted = (text) => `"${text.replace(/["\\]/g, '\\$&')}"`;

function parametersOf(parts) {
  return new Map(parts.map((part) => {
    const [, name, value = ''] = /^([^=\s]*)\s*(?:=\s*(.*))?$/s.exec(part) ?? [null, part];
    return [name.toLowerCase(), unquoted(value.trim())];
  }));
}

// From, To, Contact and their like: a name, a URI and the header's parameters.
export function parseAddress(value = '') {
  const long = /^("(?:[^"\\]|\\.)*"\s*|[^<"]*)<([^>]*)>(.*)$/s.exec(value.trim());
  if (long) return { name: unquoted(long[1].trim()), uri: long[2].trim(), params: parametersOf(split(long[3], ';')) };
  const [uri = '', ...rest] = split(value, ';');
  return { name: '', uri, params: parametersOf(rest) };
}

const tagOf = (value) => parseAddress(value).params.get('tag') ?? '';

export function userOf(uri) {
  const user = /^sips?:([^@;?]*)@/i.exec(uri)?.[1] ?? uri.replace(/^(sips?|tel):/i, '').split(/[;?]/)[0];
  try {
    return decodeURIComponent(user);
  } catch {
    return user;
  }
}

export class Message {
  // start: { method, uri } or { status, reason }; headers: [name in lower case, value] in their order.
  constructor(start, headers = [], body = '') {
    Object.assign(this, start, { headers, body });
  }

  all(name) {
    return this.headers.filter(([other]) => other === name).map(([, value]) => value);
  }

  get(name) {
    return this.headers.find(([other]) => other === name)?.[1];
  }

  set(name, value) {
    const header = this.headers.find(([other]) => other === name);
    if (header) header[1] = value;
    else this.headers.push([name, value]);
  }

  get seq() {
    return Number.parseInt(this.get('cseq'), 10);
  }

  get branch() {
    return parametersOf(split(this.get('via') ?? '', ';')).get('branch') ?? '';
  }

  firstLine() {
    return this.method ? `${this.method} ${this.uri} SIP/2.0` : `SIP/2.0 ${this.status} ${this.reason}`;
  }

  toString() {
    const spell = (name) => SPELLED[name] ?? name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase());
    const lines = this.headers.map(([name, value]) => `${spell(name)}: ${value}`);
    lines.push(`Content-Length: ${utf8(this.body).length}`);
    return [this.firstLine(), ...lines, '', this.body].join('\r\n');
  }
}

function parseStart(line) {
  const response = /^SIP\/2\.0\s+([1-6]\d\d)(?:\s+(.*))?$/i.exec(line);
  if (response) return { status: Number(response[1]), reason: (response[2] ?? '').trim() };
  const request = /^(\S+)\s+(\S+)\s+SIP\/2\.0\s*$/i.exec(line);
  return request ? { method: request[1], uri: request[2] } : null;
}

// The body ends where Content-Length says; WebSocket frames may leave it out.
function bodyOf(text, length) {
  const bytes = utf8(text);
  return length < bytes.length ? new TextDecoder().decode(bytes.subarray(0, length)) : text;
}

// Returns null for what is no SIP message.
export function parse(text) {
  const [, head, rest] = /^(?:\r?\n)*(.*?)(?:\r?\n\r?\n(.*))?$/s.exec(text);
  const [first, ...lines] = head.replace(/\r?\n[ \t]+/g, ' ').split(/\r?\n/);
  const start = parseStart(first);
  if (!start) return null;
  const headers = [];
  for (const line of lines.filter(Boolean)) {
    const colon = line.indexOf(':');
    if (colon < 1) return null;
    const written = line.slice(0, colon).trim().toLowerCase();
    const name = COMPACT[written] ?? written;
    const value = line.slice(colon + 1).trim();
    for (const each of LISTS.includes(name) ? split(value, ',') : [value]) headers.push([name, each]);
  }
  const message = new Message(start, headers);
  message.body = bodyOf(rest ?? '', Number.parseInt(message.get('content-length') ?? 'x', 10));
  message.headers = headers.filter(([name]) => name !== 'content-length');
  return message;
}

const hasWhatAllHave = (message) =>
  ['via', 'from', 'to', 'call-id'].every((name) => message.get(name)) && message.seq >= 0;

// What may be shown: the proofs of a password are not.
export function masked(text) {
  const lines = /^(proxy-)?(authorization|authentication-info)[ \t]*:.*(\r?\n[ \t].*)*/gim;
  return text.replace(lines, (line) => line.replace(/\b((?:response|rspauth)\s*=\s*)("[^"]*"|[^,\s]*)/gi, '$1"***"'));
}

// Why a request was refused or a call ended, in the words of those who did it.
export function explanationsOf(message) {
  const reasons = message.all('reason').map((value) => {
    const [protocol, ...rest] = split(value, ';');
    const params = parametersOf(rest);
    return params.get('text') || `${protocol} ${params.get('cause') ?? ''}`.trim();
  });
  const warnings = message.all('warning').map((value) => unquoted(/".*"/s.exec(value)?.[0] ?? value));
  return [...new Set([...reasons, ...warnings, ...message.all('p-registrar-error')])];
}

const refusalOf = (response) => ({
  status: response.status, reason: response.reason, local: response.local, texts: explanationsOf(response),
});

// An answer that nobody sent, for a request that cannot be answered any more.
function localFailure(local) {
  const isLate = local === 'timeout';
  const response = new Message(isLate ? { status: 408, reason: 'Request Timeout' } : { status: 503, reason: 'Service Unavailable' });
  response.local = local;
  return response;
}

// ---- digest (RFC 8760)

// MD5 and SHA-256 both work on blocks of 64 bytes: a 1 bit, zeros, and the length in bits.
function padded(bytes, isLittle) {
  const data = new Uint8Array(((bytes.length + 8 >> 6) + 1) * 64);
  data.set(bytes);
  data[bytes.length] = 0x80;
  const view = new DataView(data.buffer);
  view.setUint32(data.length - (isLittle ? 8 : 4), bytes.length * 8, isLittle);
  return view;
}

function hexOfWords(words, isLittle) {
  const view = new DataView(new ArrayBuffer(words.length * 4));
  words.forEach((word, at) => view.setInt32(at * 4, word, isLittle));
  return hexOf(new Uint8Array(view.buffer));
}

const SHIFTS = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
const SINES = Array.from({ length: 64 }, (_, at) => Math.floor(Math.abs(Math.sin(at + 1)) * 2 ** 32) | 0);
const MIXES = [
  (b, c, d) => (b & c) | (~b & d), (b, c, d) => (d & b) | (~d & c), (b, c, d) => b ^ c ^ d, (b, c, d) => c ^ (b | ~d),
];
const PLACES = [(at) => at, (at) => 5 * at + 1, (at) => 3 * at + 5, (at) => 7 * at];

export function md5(text) {
  const data = padded(utf8(text), true);
  let state = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
  for (let block = 0; block < data.byteLength; block += 64) {
    let [a, b, c, d] = state;
    for (let at = 0; at < 64; at++) {
      const round = at >> 4;
      const word = data.getInt32(block + (PLACES[round](at) % 16) * 4, true);
      const sum = (a + MIXES[round](b, c, d) + SINES[at] + word) | 0;
      const shift = SHIFTS[round][at % 4];
      [a, b, c, d] = [d, (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0, b, c];
    }
    state = [a, b, c, d].map((word, at) => (word + state[at]) | 0);
  }
  return hexOfWords(state, true);
}

const PRIMES = Array.from({ length: 312 }, (_, n) => n).filter((n) => n > 1 && ![2, 3, 5, 7, 11, 13, 17].some((p) => p < n && n % p === 0));
const fraction = (root) => Math.floor((root % 1) * 2 ** 32) | 0;
const CUBE_ROOTS = PRIMES.map((prime) => fraction(Math.cbrt(prime)));
const turned = (word, by) => (word >>> by) | (word << (32 - by));

export function sha256(text) {
  const data = padded(utf8(text), false);
  let state = PRIMES.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
  for (let block = 0; block < data.byteLength; block += 64) {
    const w = Array.from({ length: 16 }, (_, at) => data.getInt32(block + at * 4));
    let [a, b, c, d, e, f, g, h] = state;
    for (let at = 0; at < 64; at++) {
      if (at >= 16) {
        const [x, y] = [w[at - 15], w[at - 2]];
        const small0 = turned(x, 7) ^ turned(x, 18) ^ (x >>> 3);
        w[at] = (w[at - 16] + small0 + w[at - 7] + (turned(y, 17) ^ turned(y, 19) ^ (y >>> 10))) | 0;
      }
      const first = (h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + CUBE_ROOTS[at] + w[at]) | 0;
      const second = ((turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    state = [a, b, c, d, e, f, g, h].map((word, at) => (word + state[at]) | 0);
  }
  return hexOfWords(state, false);
}

// Browsers offer their SHA-256 to pages that came by https only.
const sha256ByBrowser = async (text) => hexOf(new Uint8Array(await crypto.subtle.digest('SHA-256', utf8(text))));
const HASHES = { md5, 'sha-256': (text) => (globalThis.crypto.subtle ? sha256ByBrowser(text) : sha256(text)) };
const KINDS = { 401: 'www-authenticate', 407: 'proxy-authenticate' };
const ANSWERS = { 'www-authenticate': 'authorization', 'proxy-authenticate': 'proxy-authorization' };

function parseChallenge(value) {
  const [, scheme, rest] = /^(\S+)\s+(.*)$/s.exec(value) ?? [null, '', ''];
  const params = parametersOf(split(rest, ','));
  const algorithm = params.get('algorithm') || 'MD5';
  const qops = params.get('qop') ? params.get('qop').split(',').map((each) => each.trim().toLowerCase()) : null;
  const isUsable = scheme.toLowerCase() === 'digest' && algorithm.toLowerCase() in HASHES && (!qops || qops.includes('auth'));
  const isStale = params.get('stale')?.toLowerCase() === 'true';
  return isUsable ? { params, algorithm, hasQop: Boolean(qops), isStale, count: 0 } : null;
}

async function digest(challenge, { method, uri, user, password }) {
  const hash = HASHES[challenge.algorithm.toLowerCase()];
  const [realm, nonce] = [challenge.params.get('realm') ?? '', challenge.params.get('nonce') ?? ''];
  const count = (++challenge.count).toString(16).padStart(8, '0');
  const cnonce = random(8);
  const secret = await hash(`${user}:${realm}:${password}`);
  const middle = challenge.hasQop ? `${nonce}:${count}:${cnonce}:auth` : nonce;
  const response = await hash(`${secret}:${middle}:${await hash(`${method}:${uri}`)}`);
  const parts = [`username=${quoted(user)}`, `realm=${quoted(realm)}`, `nonce=${quoted(nonce)}`, `uri=${quoted(uri)}`, `response="${response}"`];
  parts.push(`algorithm=${challenge.algorithm}`);
  if (challenge.hasQop) parts.push('qop=auth', `cnonce="${cnonce}"`, `nc=${count}`);
  if (challenge.params.has('opaque')) parts.push(`opaque=${quoted(challenge.params.get('opaque'))}`);
  return `Digest ${parts.join(', ')}`;
}

class Credentials {
  constructor(user, password) {
    Object.assign(this, { user, password, challenges: new Map() });
  }

  // Keeps the first challenge that can be answered, for this request and later ones.
  learn(response) {
    const kind = KINDS[response.status];
    const challenge = response.all(kind).map(parseChallenge).find(Boolean);
    if (challenge) this.challenges.set(kind, challenge);
    return challenge;
  }

  async writeInto(message, kinds) {
    const { user, password } = this;
    for (const kind of kinds) {
      message.set(ANSWERS[kind], await digest(this.challenges.get(kind), { method: message.method, uri: message.uri, user, password }));
    }
  }
}

// ---- transactions

// A request of ours until its last answer; it is sent anew, once, when its answer is a challenge.
class ClientRequest {
  // source.seq counts the CSeq of the dialog, the call or the registration.
  constructor(agent, message, source, tell) {
    Object.assign(this, { agent, message, source, tell, isCancelled: false, isProceeding: false, challenges: 0 });
    // Who asked before is told the password at once; a registrar asks otherwise than a proxy.
    this.kinds = new Set([message.method === 'REGISTER' ? 'www-authenticate' : 'proxy-authenticate']);
    this.start();
  }

  get isInvite() {
    return this.message.method === 'INVITE';
  }

  async start() {
    const { agent, message } = this;
    message.set('cseq', `${++this.source.seq} ${message.method}`);
    message.set('via', agent.newVia());
    this.branch = message.branch;
    this.isProceeding = false;
    agent.clients.set(this.branch, this);
    this.giveUpAfterTimeout();
    const kinds = [...this.kinds].filter((kind) => agent.credentials.challenges.has(kind));
    if (kinds.length) await agent.credentials.writeInto(message, kinds);
    if (agent.clients.get(this.branch) !== this) return;
    if (this.isCancelled) this.fail('cancelled');
    else if (!agent.send(message)) this.fail('connection');
  }

  giveUpAfterTimeout() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.fail('timeout'), TIMEOUT);
  }

  fail(local) {
    this.finish();
    this.tell(localFailure(local));
  }

  finish() {
    clearTimeout(this.timer);
    this.agent.clients.delete(this.branch);
  }

  receive(response) {
    if (response.status < 200) return this.proceed(response);
    if (this.isInvite && response.status >= 300) this.acknowledge(response);
    if (this.isInvite && response.status < 300) this.lingerForOthers();
    else this.finish();
    if (this.answersChallenge(response)) this.start();
    else this.tell(response);
  }

  proceed(response) {
    if (this.isInvite && !this.isCancelled) clearTimeout(this.timer);
    const isFirst = !this.isProceeding;
    this.isProceeding = true;
    if (this.isCancelled && isFirst) this.sendCancel();
    this.tell(response);
  }

  // A proxy that forks may pass on several 2xx, and each of them repeatedly until its ACK arrives.
  lingerForOthers() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.finish(), TIMEOUT);
  }

  answersChallenge(response) {
    if (![401, 407].includes(response.status) || this.isCancelled || this.challenges > 2) return false;
    const isFirst = this.challenges++ === 0;
    const challenge = this.agent.credentials.learn(response);
    this.kinds.add(KINDS[response.status]);
    return Boolean(challenge) && (isFirst || challenge.isStale);
  }

  // ACK of a refusal and CANCEL belong to the INVITE's transaction: same branch, same Route.
  sendWithin(method, to) {
    const { message } = this;
    const kept = ['via', 'max-forwards', 'route', 'from', 'to', 'call-id'];
    const headers = message.headers.filter(([name]) => kept.includes(name)).map((header) => [...header]);
    const within = new Message({ method, uri: message.uri }, [...headers, ['cseq', `${message.seq} ${method}`]]);
    if (to) within.set('to', to);
    this.agent.send(within);
  }

  acknowledge(response) {
    this.sendWithin('ACK', response.get('to'));
  }

  // Nothing may be cancelled before the other side has shown that the INVITE arrived (RFC 3261 9.1).
  cancel() {
    if (this.isCancelled) return;
    this.isCancelled = true;
    this.giveUpAfterTimeout();
    if (this.isProceeding) this.sendCancel();
  }

  sendCancel() {
    this.sendWithin('CANCEL');
  }
}

// An INVITE of the other side until its ACK.
class ServerInvite {
  constructor(agent, request, tag) {
    Object.assign(this, { agent, request, tag, status: 0 });
    agent.servers.set(request.branch, this);
  }

  respond(status, reason, headers = [], body = '') {
    if (this.status >= 200) return;
    this.status = status;
    const more = status < 300 ? [['contact', this.agent.contact], ['allow', ALLOW], ['supported', SUPPORTED.join(', ')]] : [];
    this.last = this.agent.answerTo(this.request, status, reason, [...more, ...headers], body, this.tag);
    this.agent.send(this.last);
    if (status >= 200) setTimeout(() => this.agent.servers.delete(this.request.branch), TIMEOUT);
  }

  repeat() {
    if (this.last) this.agent.send(this.last);
  }

  // A 2xx is repeated even over a reliable transport: the way to the caller may have others (RFC 3261 13.3.1.4).
  accept(sdp, onSilence) {
    this.respond(200, 'OK', [['content-type', 'application/sdp']], sdp);
    const again = (wait, total) => {
      this.timer = setTimeout(() => {
        if (total >= TIMEOUT) return onSilence();
        this.repeat();
        const next = Math.min(2 * wait, T2, TIMEOUT - total);
        again(next, total + next);
      }, wait);
    };
    again(T1, T1);
  }

  stop() {
    clearTimeout(this.timer);
  }
}

// ---- dialogs and calls

class Dialog {
  constructor(fields) {
    Object.assign(this, { remoteSeq: -1 }, fields);
  }

  static ofResponse(request, response) {
    return new Dialog({
      callId: request.get('call-id'), local: request.get('from'), remote: response.get('to'), seq: request.seq,
      target: parseAddress(response.get('contact')).uri || request.uri, routes: response.all('record-route').reverse(),
    });
  }

  static ofRequest(request, tag) {
    return new Dialog({
      callId: request.get('call-id'), local: `${request.get('to')};tag=${tag}`, remote: request.get('from'), seq: 0,
      remoteSeq: request.seq, target: parseAddress(request.get('contact')).uri, routes: request.all('record-route'),
    });
  }

  owns(request) {
    const [ours, theirs] = [tagOf(request.get('to')), tagOf(request.get('from'))];
    return request.get('call-id') === this.callId && ours === tagOf(this.local) && theirs === tagOf(this.remote);
  }

  request(method, agent, seq = 0) {
    const isStrict = this.routes.length > 0 && !/;lr\b/i.test(this.routes[0]);
    const routes = isStrict ? [...this.routes.slice(1), `<${this.target}>`] : this.routes;
    const headers = [
      ['via', agent.newVia()], ['max-forwards', '70'], ...routes.map((route) => ['route', route]),
      ['from', this.local], ['to', this.remote], ['call-id', this.callId], ['cseq', `${seq} ${method}`], ['user-agent', agent.name],
    ];
    return new Message({ method, uri: isStrict ? parseAddress(this.routes[0]).uri : this.target }, headers);
  }
}

// States: calling, ringing, talking, ended for our calls; incoming, talking, ended for others'.
export class Call {
  constructor(agent, state, peer) {
    Object.assign(this, { agent, state, peer, dialog: null, media: null, unacknowledged: null, isLeaving: false });
    agent.calls.add(this);
  }

  become(state, detail = {}) {
    this.state = state;
    this.agent.tell('call', this, detail);
  }

  // by: us, them, or what failed here (timeout, connection, media, ack, cancelled)
  end(detail) {
    if (this.state === 'ended') return;
    this.media?.close();
    // It still answers what crosses its end on the wire.
    setTimeout(() => this.agent.calls.delete(this), TIMEOUT);
    this.become('ended', { texts: [], ...detail });
  }

  bye(dialog = this.dialog) {
    this.agent.whenOnline(() => new ClientRequest(this.agent, dialog.request('BYE', this.agent), dialog, () => {}));
  }

  // The called side may not say BYE before the ACK has come.
  leave(detail) {
    if (this.unacknowledged) this.isLeaving = true;
    else this.bye();
    this.end(detail);
  }

  owns(request) {
    return Boolean(this.dialog?.owns(request));
  }

  receive(request) {
    const { agent, dialog } = this;
    if (request.method === 'BYE' && this.state === 'ended') return agent.answer(request, 200, 'OK');
    if (request.seq <= dialog.remoteSeq) return agent.answer(request, 500, 'CSeq out of order');
    dialog.remoteSeq = request.seq;
    if (request.method === 'BYE') return this.receiveBye(request);
    if (this.state === 'ended') return agent.answer(request, 481, 'Call/Transaction Does Not Exist');
    if (request.method === 'INVITE') return this.receiveReInvite(request);
    return agent.answerOutsideCalls(request);
  }

  receiveBye(request) {
    this.agent.answer(request, 200, 'OK');
    this.end({ by: 'them', texts: explanationsOf(request) });
  }

  receiveReInvite(request) {
    const invite = new ServerInvite(this.agent, request, tagOf(this.dialog.local));
    if (this.state !== 'talking' || this.isAnswering) return invite.respond(500, 'Another INVITE is open', [['retry-after', '3']]);
    this.dialog.target = parseAddress(request.get('contact')).uri || this.dialog.target;
    return this.answerOffer(invite);
  }

  // Gives our description to an INVITE, or offers one to an INVITE that brought none: true if it was sent.
  async answerOffer(invite) {
    this.isAnswering = true;
    try {
      const { body } = invite.request;
      const sdp = body ? await this.media.answer(body) : await this.media.offer();
      if (this.state === 'ended') return false;
      this.unacknowledged?.stop();
      this.unacknowledged = invite;
      invite.accept(sdp, () => this.leaveWithoutAck());
      return true;
    } catch (error) {
      invite.respond(488, 'Not Acceptable Here');
      this.mediaError = error;
      return false;
    } finally {
      this.isAnswering = false;
      if (this.state === 'ended') invite.respond(487, 'Request Terminated');
    }
  }

  leaveWithoutAck() {
    this.unacknowledged = null;
    this.bye();
    this.end({ by: 'ack' });
  }

  receiveAck(request) {
    const invite = this.unacknowledged;
    if (invite?.request.seq !== request.seq) return;
    invite.stop();
    this.unacknowledged = null;
    if (this.isLeaving) this.bye();
    else if (!invite.request.body && request.body) this.useAnswer(request.body);
  }

  useAnswer(sdp) {
    this.media.accept(sdp, false).catch((error) => this.leave({ by: 'media', error }));
  }

  // Media goes on without the connection; what was not answered yet cannot.
  loseConnection() {
    if (this.state !== 'talking') this.end({ by: 'connection' });
  }
}

class OutgoingCall extends Call {
  constructor(agent, uri, media) {
    super(agent, 'calling', { name: '', uri });
    Object.assign(this, { media, seq: 0, acks: new Map(), earlyTag: null });
    this.become('calling');
    this.start();
  }

  async start() {
    try {
      const sdp = await this.media.offer();
      if (this.state === 'ended') return;
      const message = this.agent.newInvite(this.peer.uri, sdp);
      this.invite = new ClientRequest(this.agent, message, this, (response) => this.receiveResponse(response));
    } catch (error) {
      this.end({ by: 'media', error });
    }
  }

  receiveResponse(response) {
    if (response.status < 200) return this.receiveProvisional(response);
    if (response.status < 300) return this.receiveAnswer(response);
    if (!this.dialog) this.end({ by: response.local ?? 'them', refusal: refusalOf(response), texts: explanationsOf(response) });
  }

  receiveProvisional(response) {
    const tag = tagOf(response.get('to'));
    if (response.status === 100 || !tag || this.dialog || this.state === 'ended') return;
    if (this.state === 'calling') this.become('ringing');
    // Early media of the first that sends some; those of other branches come with their answer only.
    if (!response.body || this.earlyTag) return;
    this.earlyTag = tag;
    this.media.accept(response.body, true).catch(() => {});
  }

  receiveAnswer(response) {
    const tag = tagOf(response.get('to'));
    if (this.acks.has(tag)) return this.agent.send(this.acks.get(tag));
    const dialog = Dialog.ofResponse(this.invite.message, response);
    this.acknowledge(dialog, tag);
    // A 2xx that crossed our CANCEL, or that of another phone when one has answered already.
    if (this.state === 'ended' || this.dialog) return this.bye(dialog);
    this.dialog = dialog;
    this.become('talking');
    return this.useAnswer(response.body);
  }

  acknowledge(dialog, tag) {
    const { message } = this.invite;
    const ack = dialog.request('ACK', this.agent, message.seq);
    for (const name of Object.values(ANSWERS)) if (message.get(name)) ack.set(name, message.get(name));
    this.acks.set(tag, ack);
    this.agent.send(ack);
  }

  // The caller is free at once; the INVITE's transaction sees to CANCEL and to what comes after it.
  hangUp() {
    if (this.dialog) return this.leave({ by: 'us' });
    this.invite?.cancel();
    return this.end({ by: 'us' });
  }
}

class IncomingCall extends Call {
  constructor(agent, request) {
    super(agent, 'incoming', parseAddress(request.get('from')));
    const tag = random(8);
    this.dialog = Dialog.ofRequest(request, tag);
    this.invite = new ServerInvite(agent, request, tag);
    this.invite.respond(180, 'Ringing');
    this.become('incoming');
  }

  async accept(media) {
    if (this.state !== 'incoming' || this.media) return media.close();
    this.media = media;
    if (await this.answerOffer(this.invite)) return this.become('talking');
    return this.end({ by: 'media', error: this.mediaError });
  }

  decline(status = 603, reason = 'Decline') {
    if (this.state !== 'incoming') return;
    this.invite.respond(status, reason);
    this.end({ by: 'us' });
  }

  hangUp() {
    if (this.state === 'talking') this.leave({ by: 'us' });
    else this.decline();
  }

  receiveCancel(request) {
    if (this.state !== 'incoming') return;
    this.invite.respond(487, 'Request Terminated');
    this.end({ by: 'cancelled', texts: explanationsOf(request) });
  }

  receiveBye(request) {
    this.invite.respond(487, 'Request Terminated');
    super.receiveBye(request);
  }
}

// ---- the agent

// RFC 5626: the same for all registrations of this browser.
export function instanceId(storage) {
  const fresh = [4, 2, 2, 2, 6].map(random).join('-').replace(/^(.{14})./, '$14').replace(/^(.{19})./, '$1a');
  try {
    const kept = storage.getItem('roost-phone-instance') ?? fresh;
    storage.setItem('roost-phone-instance', kept);
    return kept;
  } catch {
    return fresh;
  }
}

// What a person types, as a URI: blanks and separators are left out of numbers, names are escaped.
export function uriFor(typed, domain) {
  const text = typed.trim();
  if (/^(sips?|tel):/i.test(text)) return text.replace(/\s/g, '');
  const [user, host = domain] = text.split('@');
  const number = /^[+\d\s().*#-]+$/.test(user) ? user.replace(/[\s().-]/g, '') : user;
  return `sip:${encodeURIComponent(number).replace(/%2B/g, '+')}@${host}`;
}

export class UserAgent {
  // on: { message(isSent, text), registration(state, detail), call(call, detail) }
  constructor({ url, domain, user, password, instance, on, name = 'roost-phone' }) {
    Object.assign(this, { url, domain, user, on, name, credentials: new Credentials(user, password) });
    Object.assign(this, { clients: new Map(), servers: new Map(), calls: new Set(), waiting: [] });
    Object.assign(this, { state: 'offline', seq: 0, failures: 0, expires: EXPIRES, callId: random(12), tag: random(8) });
    const host = `${random(6)}.invalid`;
    this.host = host;
    this.aor = `sip:${encodeURIComponent(user)}@${domain}`;
    this.contactUri = `sip:${encodeURIComponent(user)}@${host};transport=ws`;
    this.contact = `<${this.contactUri};ob>`;
    this.binding = `<${this.contactUri}>;reg-id=1;+sip.instance="<urn:uuid:${instance}>"`;
  }

  tell(event, ...values) {
    this.on[event]?.(...values);
  }

  become(state, detail = {}) {
    this.state = state;
    this.tell('registration', state, { texts: [], ...detail });
  }

  get call() {
    return [...this.calls].find((call) => call.state !== 'ended') ?? null;
  }

  // -- the connection

  start() {
    this.isWanted = true;
    this.connect();
  }

  connect() {
    clearTimeout(this.retryTimer);
    if (this.socket) return;
    this.become('connecting');
    const socket = new WebSocket(this.url, 'sip');
    this.socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.opened();
    socket.onmessage = ({ data }) => this.receiveData(data);
    socket.onclose = () => this.closed(socket);
    setTimeout(() => socket === this.socket && socket.readyState !== WebSocket.OPEN && this.drop(), CONNECT_WITHIN);
  }

  opened() {
    this.answersPings = false;
    this.pingTimer = setInterval(() => this.ping(), PING_EVERY);
    this.register();
  }

  // Browsers send no WebSocket pings: without these a dead connection is not noticed.
  ping() {
    const before = this.heard;
    this.socket.send('\r\n\r\n');
    setTimeout(() => {
      if (this.socket && this.heard === before && this.answersPings) this.drop();
    }, PONG_WITHIN);
  }

  drop() {
    const { socket } = this;
    if (!socket) return;
    socket.onclose = null;
    socket.onmessage = null;
    socket.close();
    this.closed(socket);
  }

  closed(socket) {
    if (socket !== this.socket) return;
    this.socket = null;
    this.isBound = false;
    clearInterval(this.pingTimer);
    clearTimeout(this.refreshTimer);
    for (const call of this.calls) call.loseConnection();
    for (const request of [...this.clients.values()]) request.fail('connection');
    if (this.isWanted) this.retryLater();
    else if (this.state !== 'refused') this.become('offline');
  }

  // Waits longer after each failure, and never equally long: a restarted server is not met by all phones at once.
  retryLater(seconds = 0, refusal = null) {
    const wait = Math.min(2 ** this.failures++, LONGEST_DELAY) * (0.5 + Math.random() / 2);
    const delay = Math.max(seconds, wait);
    this.isBound = false;
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => this.retryNow(), delay * 1000);
    this.become('waiting', { delay, refusal, texts: refusal?.texts ?? [] });
  }

  retryNow() {
    if (!this.isWanted || this.state !== 'waiting') return;
    clearTimeout(this.retryTimer);
    if (this.socket) this.register();
    else this.connect();
  }

  // True if it was handed to the connection.
  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    const text = message.toString();
    this.socket.send(text);
    this.tell('message', true, masked(text));
    return true;
  }

  receiveData(data) {
    this.heard = Date.now() + Math.random();
    const text = typeof data === 'string' ? data : new TextDecoder().decode(data);
    if (!text.trim()) {
      this.answersPings = true;
      return;
    }
    this.tell('message', false, masked(text));
    const message = parse(text);
    if (message?.status) this.clientOf(message)?.receive(message);
    else if (message) this.receiveRequest(message);
  }

  clientOf(response) {
    const client = this.clients.get(response.branch);
    return client && response.get('cseq')?.endsWith(client.message.method) ? client : null;
  }

  // -- registration

  register() {
    if (!this.isBound) this.become('registering');
    this.sendRegister(this.expires, (response) => this.receiveRegistered(response));
  }

  sendRegister(expires, tell) {
    const headers = [
      ['via', ''], ['max-forwards', '70'], ['from', `<${this.aor}>;tag=${this.tag}`], ['to', `<${this.aor}>`],
      ['call-id', this.callId], ['cseq', ''], ['contact', `${this.binding};expires=${expires}`], ['expires', `${expires}`],
      ['allow', ALLOW], ['supported', SUPPORTED.join(', ')], ['user-agent', this.name],
    ];
    return new ClientRequest(this, new Message({ method: 'REGISTER', uri: `sip:${this.domain}` }, headers), this, tell);
  }

  receiveRegistered(response) {
    const { status, local } = response;
    if (status < 200 || !this.isWanted || local === 'connection') return;
    if (status < 300) this.registered(response);
    else if (status === 423 && this.expires < Number(response.get('min-expires'))) this.registerFor(Number(response.get('min-expires')));
    else if (local === 'timeout') this.drop();
    else if (status >= 500 || status === 408) this.retryLater(Number.parseInt(response.get('retry-after') ?? '0', 10) || 0, refusalOf(response));
    else this.refused(response);
  }

  registerFor(seconds) {
    this.expires = seconds;
    this.register();
  }

  // Half of what was granted: timers of a hidden tab may be a minute late.
  registered(response) {
    const ours = response.all('contact').map(parseAddress).find(({ uri }) => uri === this.contactUri);
    const granted = Number(ours?.params.get('expires') ?? response.get('expires') ?? this.expires) || this.expires;
    this.failures = 0;
    this.isBound = true;
    clearTimeout(this.refreshTimer);
    this.refreshTimer = setTimeout(() => this.register(), granted * 500);
    this.become('registered', { expires: granted });
    for (const act of this.waiting.splice(0)) act();
  }

  // Trying a refused password again would only get the extension banned.
  refused(response) {
    this.isWanted = false;
    this.become('refused', { refusal: refusalOf(response), texts: explanationsOf(response) });
    this.drop();
  }

  // A BYE may have to wait until the connection is there again.
  whenOnline(act) {
    if (this.isBound || !this.isWanted) act();
    else this.waiting.push(act);
  }

  // Ends the call, unregisters and closes.
  stop() {
    if (!this.isBound) return this.leave();
    this.call?.hangUp();
    this.isWanted = false;
    clearTimeout(this.refreshTimer);
    this.become('unregistering');
    const timer = setTimeout(() => this.leave(), 3000);
    this.sendRegister(0, ({ status }) => {
      if (status < 200) return;
      clearTimeout(timer);
      this.leave();
    });
  }

  // For a page that is closed: there is no time for answers. The server sees the connection go.
  leave() {
    this.call?.hangUp();
    this.isWanted = false;
    clearTimeout(this.retryTimer);
    // A BYE with a password is a moment later than this.
    setTimeout(() => (this.socket ? this.drop() : this.become('offline')), 100);
  }

  // -- requests of ours

  newVia() {
    const transport = this.url.protocol === 'wss:' ? 'WSS' : 'WS';
    return `SIP/2.0/${transport} ${this.host};branch=z9hG4bK${random(12)}`;
  }

  invite(typed, media) {
    return new OutgoingCall(this, uriFor(typed, this.domain), media);
  }

  newInvite(uri, sdp) {
    const headers = [
      ['via', ''], ['max-forwards', '70'], ['from', `<${this.aor}>;tag=${random(8)}`], ['to', `<${uri}>`], ['call-id', random(12)],
      ['cseq', ''], ['contact', this.contact], ['allow', ALLOW], ['supported', SUPPORTED.join(', ')], ['user-agent', this.name],
      ['content-type', 'application/sdp'],
    ];
    return new Message({ method: 'INVITE', uri }, headers, sdp);
  }

  // -- requests of others

  answerTo(request, status, reason, headers = [], body = '', tag = random(8)) {
    const to = request.get('to');
    const copied = request.headers.filter(([name]) => name === 'via' || (name === 'record-route' && status < 300));
    const own = [
      ['from', request.get('from')], ['to', tagOf(to) || status === 100 ? to : `${to};tag=${tag}`],
      ['call-id', request.get('call-id')], ['cseq', request.get('cseq')], ['user-agent', this.name],
    ];
    return new Message({ status, reason }, [...copied, ...own, ...headers], body);
  }

  answer(request, ...answer) {
    this.send(this.answerTo(request, ...answer));
  }

  receiveRequest(request) {
    const { method } = request;
    if (!hasWhatAllHave(request)) return this.refuseBroken(request);
    const call = [...this.calls].find((each) => each.owns(request));
    if (method === 'ACK') return call?.receiveAck(request);
    if (method === 'CANCEL') return this.receiveCancel(request);
    const known = method === 'INVITE' && this.servers.get(request.branch);
    if (known) return known.repeat();
    const unsupported = request.all('require').filter((option) => !SUPPORTED.includes(option.toLowerCase()));
    if (unsupported.length) return this.answer(request, 420, 'Bad Extension', [['unsupported', unsupported.join(', ')]]);
    if (call) return call.receive(request);
    if (tagOf(request.get('to'))) return this.answer(request, 481, 'Call/Transaction Does Not Exist');
    return method === 'INVITE' ? this.receiveInvite(request) : this.answerOutsideCalls(request);
  }

  refuseBroken(request) {
    const isAnswerable = ['via', 'from', 'to', 'call-id', 'cseq'].every((name) => request.get(name));
    if (isAnswerable && request.method !== 'ACK') this.answer(request, 400, 'Bad Request');
  }

  receiveCancel(request) {
    const invite = this.servers.get(request.branch);
    if (!invite) return this.answer(request, 481, 'Call/Transaction Does Not Exist');
    this.answer(request, 200, 'OK', [], '', invite.tag);
    [...this.calls].find((call) => call.invite === invite)?.receiveCancel(request);
  }

  receiveInvite(request) {
    const isMerged = [...this.servers.values()].some(({ request: other }) =>
      ['call-id', 'cseq', 'from'].every((name) => other.get(name) === request.get(name)));
    if (isMerged) return this.refuseInvite(request, 482, 'Loop Detected');
    const type = request.get('content-type') ?? 'application/sdp';
    if (request.body && !/^application\/sdp\b/i.test(type)) {
      return this.refuseInvite(request, 415, 'Unsupported Media Type', [['accept', 'application/sdp']]);
    }
    if (!request.get('contact')) return this.refuseInvite(request, 400, 'Missing Contact');
    return this.call ? this.refuseInvite(request, 486, 'Busy Here') : new IncomingCall(this, request);
  }

  refuseInvite(request, ...answer) {
    new ServerInvite(this, request, random(8)).respond(...answer);
  }

  answerOutsideCalls(request) {
    const { method } = request;
    const abilities = [['allow', ALLOW], ['accept', 'application/sdp'], ['supported', SUPPORTED.join(', ')]];
    if (method === 'OPTIONS') return this.answer(request, 200, 'OK', abilities);
    if (method === 'BYE') return this.answer(request, 481, 'Call/Transaction Does Not Exist');
    if (KNOWN_METHODS.includes(method)) return this.answer(request, 405, 'Method Not Allowed', [['allow', ALLOW]]);
    return this.answer(request, 501, 'Not Implemented', [['allow', ALLOW]]);
  }
}
