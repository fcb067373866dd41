// Binds the phone of sip.js to a page: elements with data-phone="…" inside the one with data-phone="root".
import { UserAgent, instanceId, userOf } from './sip.js';

const LONGEST_LADDER = 400;
const GATHERING = 1000;
const KEYS = '0123456789*#';

// ---- media

// Without a microphone the other side hears silence, and this side hears the other all the same.
function silentStream() {
  const context = new AudioContext();
  const [source, gain, sink] = [context.createOscillator(), context.createGain(), context.createMediaStreamDestination()];
  gain.gain.value = 0;
  source.connect(gain).connect(sink);
  source.start();
  context.resume().catch(() => {});
  return { stream: sink.stream, close: () => context.close() };
}

// note: the word that says why there is no microphone.
async function openMicrophone() {
  if (!navigator.mediaDevices) return { ...silentStream(), note: 'note.insecure' };
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    return { stream, close: () => stream.getTracks().forEach((track) => track.stop()), note: null };
  } catch (error) {
    return { ...silentStream(), note: error.name === 'NotAllowedError' ? 'note.refused' : 'note.none' };
  }
}

class Media {
  // onPath: told whether audio gets through.
  constructor(microphone, audio, onPath) {
    this.microphone = microphone;
    this.audio = audio;
    this.connection = new RTCPeerConnection({ iceServers: [] });
    for (const track of microphone.stream.getAudioTracks()) this.connection.addTrack(track, microphone.stream);
    this.connection.ontrack = ({ track }) => this.play(track);
    this.connection.onconnectionstatechange = () => onPath(this.connection.connectionState);
  }

  play(track) {
    this.audio.srcObject = new MediaStream([track]);
    this.audio.play().catch(() => {});
  }

  async describe(description) {
    await this.connection.setLocalDescription(description);
    await this.gathered();
    return this.connection.localDescription.sdp;
  }

  // Addresses that are found later than this are seldom needed.
  gathered() {
    const { connection } = this;
    return new Promise((resolve) => {
      setTimeout(resolve, GATHERING);
      const look = () => connection.iceGatheringState === 'complete' && resolve();
      connection.addEventListener('icegatheringstatechange', look);
      look();
    });
  }

  async offer() {
    return this.describe(await this.connection.createOffer());
  }

  async answer(sdp) {
    try {
      await this.connection.setRemoteDescription({ type: 'offer', sdp });
      return await this.describe(await this.connection.createAnswer());
    } catch (error) {
      // The call goes on as it was agreed before.
      if (this.connection.signalingState === 'have-remote-offer') await this.connection.setRemoteDescription({ type: 'rollback' });
      throw error;
    }
  }

  accept(sdp, isEarly) {
    return this.connection.setRemoteDescription({ type: isEarly ? 'pranswer' : 'answer', sdp });
  }

  mute(isMuted) {
    for (const track of this.microphone.stream.getAudioTracks()) track.enabled = !isMuted;
  }

  dial(key) {
    const sender = this.connection.getSenders().find(({ dtmf }) => dtmf?.canInsertDTMF);
    sender?.dtmf.insertDTMF(sender.dtmf.toneBuffer + key);
    return Boolean(sender);
  }

  close() {
    this.connection.close();
    this.microphone.close();
    this.audio.srcObject = null;
  }
}

// ---- the ladder of messages

class Ladder {
  constructor(list, say) {
    Object.assign(this, { list, say });
  }

  add(isSent, text) {
    if (!this.list) return;
    const isAtEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40;
    this.list.append(this.row(isSent, text));
    while (this.list.children.length > LONGEST_LADDER) this.list.firstChild.remove();
    if (isAtEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  row(isSent, text) {
    const now = new Date();
    const time = make('time', now.toLocaleTimeString('en-GB') + `.${String(now.getMilliseconds()).padStart(3, '0')}`);
    time.dateTime = now.toISOString();
    const arrow = make('span', isSent ? '→' : '←', 'phone-arrow');
    arrow.setAttribute('aria-hidden', 'true');
    const direction = make('span', this.say(isSent ? 'ladder.sent' : 'ladder.received'), 'phone-hidden');
    const summary = make('summary');
    summary.append(time, ' ', arrow, direction, ' ', make('span', text.split('\r\n')[0], 'phone-line'));
    const details = make('details');
    details.append(summary, make('pre', text));
    const row = make('li', '', toneOf(text));
    row.append(details);
    return row;
  }
}

function make(name, text = '', className = '') {
  const element = document.createElement(name);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function toneOf(text) {
  const status = Number(/^SIP\/2\.0 (\d)/i.exec(text)?.[1] ?? 0);
  if (!status) return 'phone-request';
  return status < 3 ? 'phone-good' : /^SIP\/2\.0 (401|407|487)/i.test(text) ? 'phone-warn' : 'phone-bad';
}

// ---- the page

class Phone {
  constructor(root) {
    this.root = root;
    this.words = JSON.parse(root.dataset.phoneWords);
    this.say = (key, values = {}) => (this.words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
    this.translate();
    this.ladder = new Ladder(this.part('ladder'), this.say);
    this.title = document.title;
    Object.assign(this, { agent: null, state: 'offline', call: null, isMuted: false, notice: '', explanation: '' });
    this.bind();
    this.show();
  }

  part(name) {
    return this.root.querySelector(`[data-phone="${name}"]`);
  }

  translate() {
    for (const element of this.root.querySelectorAll('[data-phone-word]')) element.textContent = this.say(element.dataset.phoneWord);
    for (const element of this.root.querySelectorAll('[data-phone-label]')) element.setAttribute('aria-label', this.say(element.dataset.phoneLabel));
  }

  bind() {
    const click = (name, act) => this.part(name)?.addEventListener('click', act);
    const submit = (name, act) => this.part(name).addEventListener('submit', (event) => {
      event.preventDefault();
      act();
    });
    submit('account', () => this.register());
    submit('dial', () => this.dial());
    click('unregister', () => this.agent?.stop());
    click('answer', () => this.answer());
    click('decline', () => this.call?.decline());
    click('hangup', () => this.call?.hangUp());
    // Who leaves the page ends the call: that is asked first.
    window.addEventListener('beforeunload', (event) => { if (this.call) event.preventDefault(); });
    click('mute', () => this.mute(!this.isMuted));
    click('clear', () => this.part('ladder').replaceChildren());
    for (const key of this.root.querySelectorAll('[data-phone-key]')) key.addEventListener('click', () => this.press(key.dataset.phoneKey));
    document.addEventListener('keydown', (event) => this.typed(event));
    window.addEventListener('pagehide', () => this.leave());
    window.addEventListener('online', () => this.agent?.retryNow());
  }

  // -- account

  register() {
    const [user, password] = [this.part('extension').value.trim(), this.part('password').value];
    if (!user) return this.part('extension').focus();
    this.agent?.leave();
    const agent = new UserAgent({
      url: this.address(), domain: this.root.dataset.phoneDomain || location.hostname, user, password, instance: instanceOfBrowser(),
      on: {
        message: (isSent, text) => this.ladder.add(isSent, text),
        registration: (state, detail) => agent === this.agent && this.registrationChanged(state, detail),
        call: (call, state) => agent === this.agent && this.callChanged(call, state),
      },
    });
    this.agent = agent;
    this.hasAsked = true;
    return agent.start();
  }

  address() {
    const address = new URL(this.root.dataset.phoneWs || 'phone', location.href);
    if (address.protocol.startsWith('http')) address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    return address;
  }

  registrationChanged(state, detail) {
    this.state = state;
    this.delay = Math.ceil(detail.delay ?? 0);
    if (['refused', 'waiting'].includes(state)) this.explain('register', detail);
    else if (!this.call && state !== 'offline') this.explanation = '';
    this.show();
    if (['registered', 'refused'].includes(state)) this.moveFocus();
  }

  // Who has pressed Register goes on where there is something to do now.
  moveFocus() {
    if (this.hasAsked) this.part(this.state === 'registered' ? 'number' : 'password').focus();
    this.hasAsked = false;
  }

  // -- calls

  async dial() {
    const number = this.part('number').value;
    if (!number.trim() || this.state !== 'registered' || this.call || this.isOpening) return;
    const media = await this.openMedia();
    if (this.agent.call) media.close();
    else this.agent.invite(number, media);
  }

  async answer() {
    const { call } = this;
    if (call?.state !== 'incoming' || this.isOpening) return;
    await call.accept(await this.openMedia());
    if (call.state === 'ended') this.notice = '';
    this.show();
  }

  async openMedia() {
    this.isOpening = true;
    this.notice = this.say('note.asking');
    this.show();
    try {
      const microphone = await openMicrophone();
      this.notice = microphone.note ? this.say(microphone.note) : '';
      return new Media(microphone, this.part('audio'), (state) => this.pathChanged(state));
    } finally {
      this.isOpening = false;
    }
  }

  pathChanged(state) {
    const broken = this.say('note.noPath');
    if (['failed', 'disconnected'].includes(state)) this.notice = broken;
    else if (state === 'connected' && this.notice === broken) this.notice = '';
    this.show();
  }

  callChanged(call, detail) {
    const isNew = this.call !== call;
    if (isNew && call.state === 'ended') return;
    this.call = call.state === 'ended' ? null : call;
    if (isNew) Object.assign(this, { explanation: '', ended: '' });
    if (call.state === 'incoming') this.notice = '';
    if (call.state === 'talking') this.startTimer();
    if (call.state === 'ended') this.callEnded(call, detail);
    this.show();
    this.keepFocus();
  }

  callEnded(call, detail) {
    clearInterval(this.timer);
    this.isMuted = false;
    this.notice = '';
    this.ended = this.say(endOf(detail), { peer: peerOf(call) });
    this.explanation = detail.error ? String(detail.error.message) : '';
    // What failed here is in the sentence already.
    if (!detail.refusal?.local && (detail.refusal || detail.texts.length)) this.explain('call', detail);
  }

  // What the server said, and what it means.
  explain(what, { refusal, texts }) {
    const keys = refusal ? [`${what}.${refusal.status}`, `refused.${refusal.status}`, 'refused.other'] : [];
    const meaning = this.words[keys.find((key) => key in this.words)];
    const answer = refusal && !refusal.local ? `${refusal.status} ${refusal.reason}` : '';
    const told = texts.map((text) => this.words[`text.${text}`] ?? text);
    this.explanation = [answer, ...told, refusal?.local ? this.say(`ended.${refusal.local}`) : meaning].filter(Boolean).join(' · ');
  }

  mute(isMuted) {
    if (this.call?.state !== 'talking') return;
    this.isMuted = isMuted;
    this.call.media.mute(isMuted);
    this.show();
  }

  typed(event) {
    if (event.target.closest?.('input, textarea, select, [contenteditable]') || event.ctrlKey || event.metaKey || event.altKey || !KEYS.includes(event.key) || event.repeat) return;
    this.press(event.key);
  }

  press(key) {
    if (this.call?.state !== 'talking') return;
    this.notice = this.call.media.dial(key) ? this.say('note.key', { key }) : this.say('note.noKeys');
    this.show();
  }

  leave() {
    if (this.call?.state === 'incoming') this.call.decline(480, 'Temporarily Unavailable');
    this.agent?.leave();
  }

  // -- what is seen

  startTimer() {
    const start = Date.now();
    const tick = () => {
      const seconds = Math.floor((Date.now() - start) / 1000);
      setText(this.part('timer'), `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`);
    };
    tick();
    clearInterval(this.timer);
    this.timer = setInterval(tick, 500);
  }

  stateText() {
    const { call } = this;
    if (call) return this.say(`call.${call.state}`, { peer: peerOf(call) });
    const registration = this.say(`registration.${this.state}`, { extension: this.agent?.user, seconds: this.delay });
    return [this.ended, registration].filter(Boolean).join(' ');
  }

  show() {
    const { call } = this;
    const isOn = !['offline', 'refused'].includes(this.state);
    const isReady = this.state === 'registered' && !call;
    setText(this.part('state'), this.stateText());
    setText(this.part('reason'), this.explanation);
    setText(this.part('note'), this.notice);
    this.root.dataset.phoneState = call ? call.state : this.state;
    document.title = call?.state === 'incoming' ? `${this.say('title.incoming', { peer: peerOf(call) })} – ${this.title}` : this.title;
    for (const name of ['extension', 'password', 'register']) this.part(name).disabled = isOn;
    this.part('unregister').disabled = !isOn || this.state === 'unregistering';
    for (const name of ['number', 'call']) this.part(name).disabled = !isReady;
    this.part('incoming').hidden = call?.state !== 'incoming';
    setText(this.part('caller'), call ? peerOf(call) : '');
    this.part('talk').hidden = !call || call.state === 'incoming';
    this.part('mute').disabled = call?.state !== 'talking';
    this.part('mute').setAttribute('aria-pressed', String(this.isMuted));
    setText(this.part('mute'), this.say(this.isMuted ? 'button.unmute' : 'button.mute'));
    this.part('timer').hidden = call?.state !== 'talking';
  }

  // Focus must not fall off a control that has just gone; nor may an Enter that is still held answer or hang up.
  keepFocus() {
    const active = document.activeElement;
    if (active !== document.body && !active.disabled && active.getClientRects().length) return;
    const next = !this.call ? 'number' : this.call.state === 'incoming' ? 'incoming' : 'talk';
    this.part(next).focus();
  }
}

// A name is whatever its owner claims: the number stands beside it.
const peerOf = ({ peer: { name, uri } }) => (name && name !== userOf(uri) ? `${name} (${userOf(uri)})` : userOf(uri));

// A BYE that says why may be of a server between the two.
function endOf({ by, refusal, texts }) {
  if (by !== 'them') return `ended.${by}`;
  return refusal ? 'ended.refused' : texts.length ? 'ended.reason' : 'ended.them';
}

function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

// Browsers that keep nothing throw at the mere mention of it.
function instanceOfBrowser() {
  try {
    return instanceId(localStorage);
  } catch {
    return instanceId(null);
  }
}

for (const root of document.querySelectorAll('[data-phone="root"]')) new Phone(root);
