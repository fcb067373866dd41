// A phone in a page: registers, answers every call, calls when its address says so, and tells the test what happens.
import JsSIP from 'jssip';
import { Inviter, Registerer, RegistererState, SessionState, UserAgent } from 'sip.js';

const wanted = new URLSearchParams(location.search);
const [user, url, callee, library] = ['user', 'url', 'call', 'library'].map((name) => wanted.get(name));
const hangsUp = wanted.get('hangs_up') === 'yes';
const instance = wanted.get('instance');
const media = { audio: true, video: false };
const host = '127.0.0.1';

const say = (text) => fetch('/say?' + new URLSearchParams({ text }));

function withJsSip() {
  const sockets = [new JsSIP.WebSocketInterface(url)];
  const phone = new JsSIP.UA({
    sockets,
    uri: `sip:${user}@${host}`,
    password: user,
    register_expires: 60,
    instance_id: instance,
    connection_recovery_min_interval: 1,
  });
  const options = { mediaConstraints: media, pcConfig: { iceServers: [] } };
  const watch = (session) => {
    session.on('confirmed', () => {
      say('talking');
      if (hangsUp) setTimeout(() => session.terminate(), 500);
    });
    session.on('ended', ({ originator }) => say(`ended by ${originator === 'local' ? 'us' : 'them'}`));
    session.on('failed', ({ message }) => say(`failed ${message?.status_code}`));
  };
  let hasCalled = false;
  phone.on('registered', () => {
    say('registered');
    if (callee && !hasCalled) watch(phone.call(`sip:${callee}@${host}`, options));
    hasCalled = true;
  });
  phone.on('registrationFailed', ({ response }) => say(`refused ${response?.status_code}`));
  phone.on('newRTCSession', ({ originator, session }) => {
    if (originator !== 'remote') return;
    watch(session);
    session.answer(options);
  });
  phone.start();
}

async function withSipJs() {
  const watch = (session) =>
    session.stateChange.addListener((state) => {
      if (state === SessionState.Established) {
        say('talking');
        if (hangsUp) setTimeout(() => { isOurs = true; session.bye(); }, 500);
      }
      if (state === SessionState.Terminated) say(`ended by ${isOurs ? 'us' : 'them'}`);
    });
  let isOurs = false;
  const phone = new UserAgent({
    uri: UserAgent.makeURI(`sip:${user}@${host}`),
    authorizationUsername: user,
    authorizationPassword: user,
    transportOptions: { server: url },
    sessionDescriptionHandlerFactoryOptions: { peerConnectionConfiguration: { iceServers: [] } },
    delegate: {
      onInvite(session) {
        watch(session);
        session.accept({ sessionDescriptionHandlerOptions: { constraints: media } });
      },
    },
  });
  await phone.start();
  const registerer = new Registerer(phone, { expires: 60 });
  registerer.stateChange.addListener(async (state) => {
    if (state !== RegistererState.Registered) return;
    say('registered');
    if (!callee) return;
    const session = new Inviter(phone, UserAgent.makeURI(`sip:${callee}@${host}`), {
      sessionDescriptionHandlerOptions: { constraints: media },
    });
    watch(session);
    await session.invite({ requestDelegate: { onReject: ({ message }) => say(`failed ${message.statusCode}`) } });
  });
  await registerer.register();
}

if (library === 'sipjs') withSipJs();
else withJsSip();
