use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, RecvError, SendError, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use oci_content::{Algorithm, Digest, Hasher};

/// Hashes files one after the other, large ones on separate threads while the next ones are read.
///
/// One thread hashes a file, so two are busy only while the rest of one file and the start of the
/// next are both in the buffers.
#[derive(Debug)]
pub(crate) struct Hashing {
    /// The maximum number of threads; with 0, files are hashed on the thread that reads.
    max_threads: usize,
    threads: Vec<HashThread>,
    /// The thread that gets the next file.
    next: usize,
    /// The thread that hashes the current file; `None` if `hasher` does.
    current: Option<usize>,
    hasher: Hasher,
    buffers: Buffers,
}

/// The digest of a file that was read.
#[derive(Debug)]
pub(crate) enum Hash {
    Known(Digest),
    Coming(Receiver<Digest>),
}

#[derive(Debug)]
struct HashThread {
    jobs: Sender<Job>,
    handle: JoinHandle<()>,
}

enum Job {
    Start,
    Bytes(Buffer),
    End(Sender<Digest>),
}

/// Bytes of a file.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    /// Fills the buffer, or reads until `read` returns 0; returns whether it did.
    pub(crate) fn fill<E>(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        while self.filled < self.bytes.len() {
            match read(&mut self.bytes[self.filled..])? {
                0 => return Ok(true),
                count => self.filled += count,
            }
        }
        Ok(false)
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

/// Buffers that are reused: the reader fills them, and the thread that hashes them gives them back.
#[derive(Debug)]
struct Buffers {
    idle: VecDeque<Buffer>,
    made: usize,
    back: (Sender<Buffer>, Receiver<Buffer>),
}

const BUFFER_BYTES: usize = 256 << 10;
/// 12 MiB: a file of this size is handed over whole, and hashed while the next one is read.
const MAX_BUFFERS: usize = 48;
/// More threads would wait for the reader and for memory.
const MAX_THREADS: usize = 4;

impl Hashing {
    /// Creates the state for `threads` threads; by default one per processor.
    pub(crate) fn new(threads: Option<NonZeroUsize>) -> Self {
        let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = threads.unwrap_or_else(processors).get();
        Self {
            max_threads: if threads > 1 {
                threads.min(MAX_THREADS)
            } else {
                0
            },
            threads: Vec::new(),
            next: 0,
            current: None,
            hasher: Hasher::new(Algorithm::Sha256),
            buffers: Buffers {
                idle: VecDeque::new(),
                made: 0,
                back: channel(),
            },
        }
    }

    /// Starts a file of `size` bytes.
    pub(crate) fn start(&mut self, size: u64) {
        self.current = if size > BUFFER_BYTES as u64 {
            self.next_thread()
        } else {
            None
        };
        match self.current {
            Some(thread) => self.send(thread, Job::Start),
            None => self.hasher = Hasher::new(Algorithm::Sha256),
        }
    }

    /// Returns an empty buffer; waits for one if all are in use.
    pub(crate) fn buffer(&mut self) -> Buffer {
        self.buffers.take()
    }

    /// Adds the bytes of a buffer to the file.
    pub(crate) fn update(&mut self, buffer: Buffer) {
        match self.current {
            Some(thread) => self.send(thread, Job::Bytes(buffer)),
            None => {
                self.hasher.update(buffer.filled());
                self.buffers.idle.push_back(buffer);
            }
        }
    }

    /// Ends the file.
    pub(crate) fn end(&mut self) -> Hash {
        match self.current {
            Some(thread) => {
                let (digest, coming) = channel();
                self.send(thread, Job::End(digest));
                Hash::Coming(coming)
            }
            None => Hash::Known(self.hasher.clone().finish()),
        }
    }

    /// Returns the thread for a large file; `None` if there are to be no threads, or the system
    /// cannot start one.
    fn next_thread(&mut self) -> Option<usize> {
        if self.threads.len() < self.max_threads {
            let (jobs, from) = channel();
            let back = self.buffers.back.0.clone();
            let builder = thread::Builder::new().name("hash".into());
            match builder.spawn(move || hash(from, &back)) {
                Ok(handle) => self.threads.push(HashThread { jobs, handle }),
                Err(_) => self.max_threads = self.threads.len(),
            }
        }
        self.next = (self.next + 1) % self.threads.len().max(1);
        (!self.threads.is_empty()).then_some(self.next)
    }

    fn send(&mut self, thread: usize, job: Job) {
        let sent = self.threads[thread].jobs.send(job);
        if let Err(SendError(_)) = sent {
            self.join();
        }
    }

    /// Waits for all threads and propagates their panics.
    fn join(&mut self) {
        for thread in std::mem::take(&mut self.threads) {
            drop(thread.jobs);
            if let Err(reason) = thread.handle.join()
                && !thread::panicking()
            {
                panic::resume_unwind(reason);
            }
        }
    }
}

/// No thread outlives the validation.
impl Drop for Hashing {
    fn drop(&mut self) {
        self.join();
    }
}

impl Hash {
    /// Returns the digest if it is known, else itself.
    pub(crate) fn poll(self) -> Result<Digest, Self> {
        match self {
            Self::Known(digest) => Ok(digest),
            Self::Coming(coming) => match coming.try_recv() {
                Ok(digest) => Ok(digest),
                Err(TryRecvError::Empty) => Err(Self::Coming(coming)),
                Err(TryRecvError::Disconnected) => panic!("a thread that hashes has panicked"),
            },
        }
    }

    /// Waits for the digest.
    pub(crate) fn wait(self) -> Digest {
        match self {
            Self::Known(digest) => digest,
            Self::Coming(coming) => match coming.recv() {
                Ok(digest) => digest,
                Err(RecvError) => panic!("a thread that hashes has panicked"),
            },
        }
    }
}

impl Buffers {
    fn take(&mut self) -> Buffer {
        self.idle.extend(self.back.1.try_iter());
        let idle = self.idle.pop_front();
        let buffer = match idle {
            None if self.made == MAX_BUFFERS => self.back.1.recv().ok(),
            idle => idle,
        };
        let mut buffer = buffer.unwrap_or_else(|| {
            self.made += 1;
            Buffer {
                bytes: vec![0; BUFFER_BYTES].into(),
                filled: 0,
            }
        });
        buffer.filled = 0;
        buffer
    }
}

/// Hashes files until there are no more jobs.
fn hash(jobs: Receiver<Job>, back: &Sender<Buffer>) {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Start => hasher = Hasher::new(Algorithm::Sha256),
            Job::Bytes(buffer) => {
                let update = AssertUnwindSafe(|| hasher.update(buffer.filled()));
                let updated = panic::catch_unwind(update);
                if let Err(reason) = updated {
                    // The reader may be waiting for a buffer: it gets this one, and notices the
                    // panic when it sends it.
                    drop(jobs);
                    drop(back.send(buffer));
                    panic::resume_unwind(reason);
                }
                // The reader may have ended early; the buffer is then no longer needed.
                drop(back.send(buffer));
            }
            Job::End(digest) => drop(digest.send(hasher.clone().finish())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(hashing: &mut Hashing, mut bytes: &[u8]) -> Hash {
        hashing.start(bytes.len() as u64);
        loop {
            let mut buffer = hashing.buffer();
            let ended = buffer.fill(|into| std::io::Read::read(&mut bytes, into));
            hashing.update(buffer);
            if ended.unwrap() {
                return hashing.end();
            }
        }
    }

    #[test]
    fn every_file_gets_its_own_digest_on_any_number_of_threads() {
        // One is larger than all buffers together.
        let sizes = [
            0,
            1,
            BUFFER_BYTES,
            BUFFER_BYTES + 1,
            BUFFER_BYTES * (MAX_BUFFERS + 3),
            3,
            1 << 20,
        ];
        let files: Vec<Vec<u8>> = sizes
            .into_iter()
            .zip(1..)
            .map(|(size, byte)| vec![byte; size])
            .collect();
        for threads in [1, 2, 9] {
            let mut hashing = Hashing::new(NonZeroUsize::new(threads));
            let hashes: Vec<Hash> = files.iter().map(|file| put(&mut hashing, file)).collect();
            assert_eq!(
                hashing.threads.len(),
                if threads == 1 { 0 } else { threads.min(3) }
            );
            for (file, hash) in files.iter().zip(hashes) {
                assert_eq!(hash.wait(), Digest::of(file), "{} bytes", file.len());
            }
        }
    }

    #[test]
    fn a_file_that_is_left_in_the_middle_is_forgotten() {
        let mut hashing = Hashing::new(NonZeroUsize::new(2));
        for _ in 0..3 {
            hashing.start(1 << 30);
            let mut buffer = hashing.buffer();
            buffer.fill(|into| Ok::<_, ()>(into.len())).unwrap();
            hashing.update(buffer);
        }
        let bytes = vec![5; 1 << 20];
        assert_eq!(put(&mut hashing, &bytes).wait(), Digest::of(&bytes));
    }

    /// No buffer holds as much as this one says.
    fn impossible() -> Buffer {
        Buffer {
            bytes: Box::default(),
            filled: 1,
        }
    }

    #[test]
    fn a_thread_that_panics_takes_no_more_and_gives_its_buffer_back() {
        let ((jobs, from), (back, returned)) = (channel(), channel());
        for _ in 0..3 {
            jobs.send(Job::Bytes(impossible())).unwrap();
        }
        let hashing = AssertUnwindSafe(move || hash(from, &back));
        panic::catch_unwind(hashing).unwrap_err();
        assert!(jobs.send(Job::Start).is_err());
        assert_eq!(returned.into_iter().count(), 1);
    }

    #[test]
    fn a_panic_of_a_thread_goes_on_in_the_one_that_reads() {
        let read = || {
            let mut hashing = Hashing::new(NonZeroUsize::new(2));
            hashing.start(1 << 30);
            hashing.update(impossible());
            loop {
                let buffer = hashing.buffer();
                hashing.update(buffer);
            }
        };
        let reason = panic::catch_unwind(read).unwrap_err();
        let reason = reason.downcast::<String>().unwrap();
        assert!(reason.contains("out of range"), "{reason}");
    }
}
