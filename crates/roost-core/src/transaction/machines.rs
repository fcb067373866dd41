//! The four transaction state machines (RFC 3261 section 17 with RFC 6026) as tables without state of their own:
//! state and event in, next state and action out. `None` means that the event is nothing to this state.

use serde::{Deserialize, Serialize};

/// INVITE, server side (RFC 3261 17.2.1, RFC 6026 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InviteServer {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Terminated,
}

/// Any other request, server side (RFC 3261 17.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NonInviteServer {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

/// INVITE, client side (RFC 3261 17.1.1, RFC 6026 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InviteClient {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Terminated,
}

/// Any other request, client side (RFC 3261 17.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NonInviteClient {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

/// What happens to a server transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerEvent {
    /// The request came again.
    Request,
    /// We want to send 1xx, 2xx, or 300 to 699.
    Provisional,
    Success,
    Failure,
    Ack,
    /// Timer G.
    Resend,
    /// Timer H, I, J or L, whichever the state set.
    End,
}

/// What a server transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerAction {
    /// Nothing.
    Absorb,
    /// Send the response that was asked for.
    Send,
    /// Send the last response again.
    Resend,
    /// Forget the transaction.
    End,
}

/// What happens to a client transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientEvent {
    Provisional,
    Success,
    Failure,
    /// Timer A or E.
    Resend,
    /// Timer B or F: no answer.
    Timeout,
    /// Timer D, K or M.
    End,
}

/// What a client transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAction {
    /// Nothing.
    Absorb,
    /// Give the response to the proxy.
    Pass,
    /// Acknowledge a failure and give it to the proxy.
    AckAndPass,
    /// Acknowledge a failure that was passed before.
    Ack,
    /// Send the request again.
    Resend,
    /// Tell the proxy that nobody answers.
    Timeout,
    /// Forget the branch.
    End,
}

impl InviteServer {
    pub(crate) fn step(self, event: ServerEvent) -> Option<(Self, ServerAction)> {
        use InviteServer::{Accepted, Completed, Confirmed, Proceeding, Terminated};
        use ServerAction::{Absorb, End, Resend, Send};
        use ServerEvent as E;
        Some(match (self, event) {
            (Proceeding, E::Request) => (Proceeding, Resend),
            (Proceeding, E::Provisional) => (Proceeding, Send),
            (Proceeding, E::Success) => (Accepted, Send),
            (Proceeding, E::Failure) => (Completed, Send),
            (Completed, E::Request | E::Resend) => (Completed, Resend),
            (Completed, E::Ack) => (Confirmed, Absorb),
            (Completed | Confirmed | Accepted, E::End) => (Terminated, End),
            (Confirmed, E::Ack | E::Request) => (Confirmed, Absorb),
            (Accepted, E::Request) => (Accepted, Absorb),
            (Accepted, E::Success) => (Accepted, Send),
            _ => return None,
        })
    }
}

impl NonInviteServer {
    pub(crate) fn step(self, event: ServerEvent) -> Option<(Self, ServerAction)> {
        use NonInviteServer::{Completed, Proceeding, Terminated, Trying};
        use ServerAction::{Absorb, End, Resend, Send};
        use ServerEvent as E;
        Some(match (self, event) {
            (Trying, E::Request) => (Trying, Absorb),
            (Trying | Proceeding, E::Provisional) => (Proceeding, Send),
            (Trying | Proceeding, E::Success | E::Failure) => (Completed, Send),
            (Proceeding, E::Request) => (Proceeding, Resend),
            (Completed, E::Request) => (Completed, Resend),
            (Completed, E::End) => (Terminated, End),
            _ => return None,
        })
    }
}

impl InviteClient {
    pub(crate) fn step(self, event: ClientEvent) -> Option<(Self, ClientAction)> {
        use ClientAction::{Ack, AckAndPass, End, Pass, Resend, Timeout};
        use ClientEvent as E;
        use InviteClient::{Accepted, Calling, Completed, Proceeding, Terminated};
        Some(match (self, event) {
            (Calling, E::Resend) => (Calling, Resend),
            (Calling | Proceeding, E::Timeout) => (Terminated, Timeout),
            (Calling | Proceeding, E::Provisional) => (Proceeding, Pass),
            (Calling | Proceeding, E::Success) => (Accepted, Pass),
            (Calling | Proceeding, E::Failure) => (Completed, AckAndPass),
            (Completed, E::Failure) => (Completed, Ack),
            (Completed | Accepted, E::End) => (Terminated, End),
            (Accepted, E::Success) => (Accepted, Pass),
            _ => return None,
        })
    }
}

impl NonInviteClient {
    pub(crate) fn step(self, event: ClientEvent) -> Option<(Self, ClientAction)> {
        use ClientAction::{Absorb, End, Pass, Resend, Timeout};
        use ClientEvent as E;
        use NonInviteClient::{Completed, Proceeding, Terminated, Trying};
        Some(match (self, event) {
            (Trying, E::Resend) => (Trying, Resend),
            (Proceeding, E::Resend) => (Proceeding, Resend),
            (Trying | Proceeding, E::Timeout) => (Terminated, Timeout),
            (Trying | Proceeding, E::Provisional) => (Proceeding, Pass),
            (Trying | Proceeding, E::Success | E::Failure) => (Completed, Pass),
            (Completed, E::Provisional | E::Success | E::Failure) => (Completed, Absorb),
            (Completed, E::End) => (Terminated, End),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs every row and checks that no other pair of state and event means anything.
    macro_rules! table {
        ($name:ident, $machine:ident, $event:ident: [$($e:ident),*], [$($s:ident),*],
            $($from:ident $on:ident => $to:ident $action:ident,)*) => {
            #[test]
            fn $name() {
                let rows = [$(($machine::$from, $event::$on, $machine::$to, stringify!($action)),)*];
                for state in [$($machine::$s),*] {
                    for event in [$($event::$e),*] {
                        let row = rows.iter().find(|(from, on, ..)| (*from, *on) == (state, event));
                        let expected = row.map(|(_, _, to, action)| (*to, action.to_string()));
                        let got = state.step(event).map(|(to, action)| (to, format!("{action:?}")));
                        assert_eq!(got, expected, "{state:?} on {event:?}");
                    }
                }
            }
        };
    }

    table! { invite_server, InviteServer,
        ServerEvent: [Request, Provisional, Success, Failure, Ack, Resend, End],
        [Proceeding, Completed, Confirmed, Accepted, Terminated],
        Proceeding Request => Proceeding Resend,
        Proceeding Provisional => Proceeding Send,
        Proceeding Success => Accepted Send,
        Proceeding Failure => Completed Send,
        Completed Request => Completed Resend,
        Completed Resend => Completed Resend,
        Completed Ack => Confirmed Absorb,
        Completed End => Terminated End,
        Confirmed Ack => Confirmed Absorb,
        Confirmed Request => Confirmed Absorb,
        Confirmed End => Terminated End,
        Accepted Request => Accepted Absorb,
        Accepted Success => Accepted Send,
        Accepted End => Terminated End,
    }

    table! { non_invite_server, NonInviteServer,
        ServerEvent: [Request, Provisional, Success, Failure, Ack, Resend, End],
        [Trying, Proceeding, Completed, Terminated],
        Trying Request => Trying Absorb,
        Trying Provisional => Proceeding Send,
        Trying Success => Completed Send,
        Trying Failure => Completed Send,
        Proceeding Request => Proceeding Resend,
        Proceeding Provisional => Proceeding Send,
        Proceeding Success => Completed Send,
        Proceeding Failure => Completed Send,
        Completed Request => Completed Resend,
        Completed End => Terminated End,
    }

    table! { invite_client, InviteClient,
        ClientEvent: [Provisional, Success, Failure, Resend, Timeout, End],
        [Calling, Proceeding, Completed, Accepted, Terminated],
        Calling Resend => Calling Resend,
        Calling Timeout => Terminated Timeout,
        Calling Provisional => Proceeding Pass,
        Calling Success => Accepted Pass,
        Calling Failure => Completed AckAndPass,
        Proceeding Timeout => Terminated Timeout,
        Proceeding Provisional => Proceeding Pass,
        Proceeding Success => Accepted Pass,
        Proceeding Failure => Completed AckAndPass,
        Completed Failure => Completed Ack,
        Completed End => Terminated End,
        Accepted Success => Accepted Pass,
        Accepted End => Terminated End,
    }

    table! { non_invite_client, NonInviteClient,
        ClientEvent: [Provisional, Success, Failure, Resend, Timeout, End],
        [Trying, Proceeding, Completed, Terminated],
        Trying Resend => Trying Resend,
        Trying Timeout => Terminated Timeout,
        Trying Provisional => Proceeding Pass,
        Trying Success => Completed Pass,
        Trying Failure => Completed Pass,
        Proceeding Resend => Proceeding Resend,
        Proceeding Timeout => Terminated Timeout,
        Proceeding Provisional => Proceeding Pass,
        Proceeding Success => Completed Pass,
        Proceeding Failure => Completed Pass,
        Completed Provisional => Completed Absorb,
        Completed Success => Completed Absorb,
        Completed Failure => Completed Absorb,
        Completed End => Terminated End,
    }
}
