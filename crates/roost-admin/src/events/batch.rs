//! Events that were written together, once for all consumers.

use std::collections::VecDeque;
use std::sync::Arc;

use roost_filter::Filter;

use crate::events::KEPT;
use crate::events::shape::Json;
use crate::facts::{EVENT, JsonFacts};

/// Events of one batch.
const MOST: usize = 512;
/// What ends a server-sent event.
const FRAME_END: &[u8] = b"\n\n";

/// Events that were told at once, numbered one by one. Numbers count from the process's start, in their upper half the second
/// of that start: those of an earlier process are less.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The number of its first event; an empty one's next.
    pub(crate) first_id: u64,
    /// Milliseconds of unix time.
    pub(crate) at_ms: u64,
    /// Of another node.
    pub(crate) is_remote: bool,
    /// Of each event the extensions that it is about, then what it is as a server-sent event.
    text: Vec<u8>,
    places: Vec<Place>,
}

/// Where an event stands in the text.
#[derive(Debug)]
struct Place {
    name: &'static str,
    start: usize,
    frame: usize,
    params: usize,
    end: usize,
}

/// One event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'b> {
    pub(crate) id: u64,
    /// Milliseconds of unix time.
    pub(crate) at_ms: u64,
    pub(crate) name: &'static str,
    /// The extensions that it is about, one behind the other.
    pub(crate) about: &'b [u8],
    /// As a server-sent event: number, name and data.
    pub(crate) frame: &'b [u8],
    params: &'b [u8],
}

impl Told<'_> {
    /// A JSON object.
    pub(crate) fn params(&self) -> &str {
        std::str::from_utf8(self.params).unwrap_or("{}")
    }

    /// Whether a condition on its type and parameters holds.
    pub(crate) fn is_so(&self, when: &Filter) -> bool {
        let Ok(mut object) = serde_json::from_str::<serde_json::Value>(self.params()) else { return false };
        if let Some(object) = object.as_object_mut() {
            object.insert("type".to_string(), self.name.into());
        }
        when.holds(&JsonFacts { object: &object, schema: &EVENT })
    }

    /// Whether it is about an extension: one of several, where it is about a call.
    pub(crate) fn is_about(&self, aor: &str) -> bool {
        self.about.split(|byte| *byte == b' ').any(|one| one == aor.as_bytes())
    }
}

impl Batch {
    /// An empty one.
    pub(crate) fn new(first_id: u64) -> Batch {
        Batch { first_id, at_ms: 0, is_remote: false, text: Vec::new(), places: Vec::new() }
    }

    /// Takes it out; what comes after it is of the same time, and may well be as much.
    pub(crate) fn take(&mut self) -> Batch {
        let next = Batch {
            first_id: self.next_id(),
            at_ms: self.at_ms,
            is_remote: false,
            text: Vec::with_capacity(self.text.len()),
            places: Vec::with_capacity(self.len()),
        };
        std::mem::replace(self, next)
    }

    /// Forgets its events, which have had their numbers.
    pub(crate) fn clear(&mut self) {
        self.first_id = self.next_id();
        self.text.clear();
        self.places.clear();
    }

    pub(crate) fn push(&mut self, name: &'static str, about: &[&[u8]], params: &dyn Json) {
        let id = self.next_id();
        let text = &mut self.text;
        let start = text.len();
        for one in about.iter().filter(|one| !one.is_empty()) {
            if text.len() > start {
                text.push(b' ');
            }
            text.extend_from_slice(one);
        }
        let frame = text.len();
        text.extend_from_slice(b"id: ");
        Json::write(&id, text);
        text.extend_from_slice(b"\nevent: ");
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"\ndata: ");
        let params_at = text.len();
        params.write(text);
        text.extend_from_slice(FRAME_END);
        let end = text.len();
        self.places.push(Place { name, start, frame, params: params_at, end });
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MOST
    }

    /// The number of the event after its last.
    pub(crate) fn next_id(&self) -> u64 {
        self.first_id + self.len() as u64
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Told<'_>> {
        self.from(self.first_id)
    }

    /// Its events from this number on.
    pub(crate) fn from(&self, id: u64) -> impl Iterator<Item = Told<'_>> {
        let skipped = id.saturating_sub(self.first_id) as usize;
        let places = self.places.iter().zip(self.first_id..).skip(skipped);
        places.map(|(place, id)| {
            let part = |from: usize, to: usize| self.text.get(from..to).unwrap_or(&[]);
            let params = part(place.params, place.end - FRAME_END.len());
            Told {
                id,
                at_ms: self.at_ms,
                name: place.name,
                about: part(place.start, place.frame),
                frame: part(place.frame, place.end),
                params,
            }
        })
    }
}

/// The last events, for those who read them a little later.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    batches: VecDeque<Arc<Batch>>,
    events: usize,
}

impl Kept {
    pub(crate) fn push(&mut self, batch: Arc<Batch>) {
        self.events += batch.len();
        self.batches.push_back(batch);
        while let Some(first) = self.batches.front().filter(|first| self.events - first.len() >= KEPT) {
            self.events -= first.len();
            self.batches.pop_front();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Kept::default();
    }

    pub(crate) fn first_id(&self) -> Option<u64> {
        self.batches.front().map(|batch| batch.first_id)
    }

    /// The batch that has the event of this number, or the first one after it.
    pub(crate) fn from(&self, id: u64) -> Option<Arc<Batch>> {
        let at = self.batches.partition_point(|batch| batch.next_id() <= id);
        self.batches.get(at).map(Arc::clone)
    }
}
