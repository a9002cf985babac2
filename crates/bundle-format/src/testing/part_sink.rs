use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sink::Sink;

/// A sink that takes a bundle as an object store takes an upload in parts: each part is sent once,
/// when every byte of it is settled, and never changes afterwards. What was sent cannot be read
/// back.
///
/// It refuses each call by which a writer breaks the contract of [`Sink`], so that a writer that
/// ends without an error has kept it.
pub struct PartSink {
    part_bytes: NonZeroUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    fates: Vec<Fate>,
    /// The parts that were sent, by their number from 0.
    sent: Vec<Option<Vec<u8>>>,
    object: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Reserved,
    Written,
    Settled,
}

impl PartSink {
    /// Creates a sink whose parts have `part_bytes` bytes each; the last one may have fewer.
    pub fn new(part_bytes: NonZeroUsize) -> Self {
        Self {
            part_bytes,
            state: Mutex::default(),
        }
    }

    /// Returns the object: what was sent, once [`sync`](Sink::sync) has made one of the parts.
    pub fn object(&self) -> Option<Vec<u8>> {
        self.state().object.clone()
    }

    /// Returns the number of parts that were sent so far.
    pub fn sent(&self) -> usize {
        self.state().sent.iter().flatten().count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the place of some bytes, if they may still be touched.
    fn open(&self, what: &str, offset: u64, length: u64) -> io::Result<Range<usize>> {
        let place = || {
            let start = usize::try_from(offset).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            (end <= self.bytes.len()).then_some(start..end)
        };
        if self.object.is_some() {
            return refuse(format_args!("{what} after `sync`"));
        }
        let Some(range) = place() else {
            return refuse(format_args!("{what} beyond the size that was reserved"));
        };
        if self.fates[range.clone()].contains(&Fate::Settled) {
            return refuse(format_args!("{what} of bytes that were settled already"));
        }
        Ok(range)
    }
}

fn refuse<T>(broken: impl fmt::Display) -> io::Result<T> {
    let reason = format!("the writer breaks the contract: {broken}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

impl Sink for PartSink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state();
        let place = state.open("a write", offset, bytes.len() as u64)?;
        state.bytes[place.clone()].copy_from_slice(bytes);
        state.fates[place].fill(Fate::Written);
        Ok(())
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        *self.state() = State {
            bytes: vec![0; size],
            fates: vec![Fate::Reserved; size],
            sent: vec![None; size.div_ceil(self.part_bytes.get())],
            object: None,
        };
        Ok(())
    }

    fn settled(&self, range: Range<u64>) -> io::Result<()> {
        let mut state = self.state();
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            return refuse("a range without bytes is settled");
        }
        let place = state.open("a settling", range.start, length)?;
        if state.fates[place.clone()].contains(&Fate::Reserved) {
            return refuse("bytes are settled that were never written");
        }
        state.fates[place.clone()].fill(Fate::Settled);
        let part_bytes = self.part_bytes.get();
        for number in place.start / part_bytes..place.end.div_ceil(part_bytes) {
            let end = ((number + 1) * part_bytes).min(state.bytes.len());
            let part = number * part_bytes..end;
            if state.fates[part.clone()]
                .iter()
                .all(|fate| *fate == Fate::Settled)
            {
                state.sent[number] = Some(state.bytes[part.clone()].to_vec());
                // What was sent is not kept.
                state.bytes[part].fill(0);
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.sent.iter().any(Option::is_none) {
            return refuse("`sync` before every byte is settled");
        }
        let parts: Vec<_> = state.sent.iter().flatten().map(Vec::as_slice).collect();
        state.object = Some(parts.concat());
        Ok(())
    }
}

impl fmt::Debug for PartSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let sent = state.sent.iter().flatten().count();
        f.debug_struct("PartSink")
            .field("part_bytes", &self.part_bytes)
            .field("size", &state.bytes.len())
            .field("sent", &sent)
            .finish_non_exhaustive()
    }
}
