use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::read_at::ReadAt;

/// Where a bundle is written: a place that takes bytes at an offset.
///
/// A file is one ([`FileSink`](crate::FileSink)), and so are the volumes of an
/// [`OutputFile`](crate::OutputFile), memory ([`MemorySink`](crate::MemorySink)), and a multipart
/// upload to an object store. With the feature `testing`, `testing::check_sink` checks an
/// implementation, and `testing::PartSink` shows how an upload in parts can be one.
///
/// # Contract
///
/// What a sink may rely on:
///
/// - [`reserve`](Self::reserve) comes first, with the size of the bundle, and nothing is written
///   beyond that size. It can come again, with the same size or another one, and then everything
///   starts over: nothing is settled any more.
/// - [`write_at`](Self::write_at) comes in any order and from any number of threads. Calls at the
///   same time never overlap. The bytes of one file of the bundle come in their order, in pieces of
///   at most 130 KiB; the files come in any order, and several at once.
/// - Until bytes are settled, they may be written again, and then with other content: a download
///   that starts over writes its file again from the first byte. Settled bytes are never written
///   again.
/// - [`settled`](Self::settled) comes once for each byte of the bundle, after the last write to it.
///   A range is a whole file with its header and padding, or a part of the frame around the files.
///   Ranges come in any order and from any thread, and do not overlap.
/// - [`sync`](Self::sync) comes last, when every byte from 0 to the size is settled.
/// - A writer that gives up calls nothing more: the sink is dropped without `sync`.
///
/// What a sink promises:
///
/// - `write_at` takes all bytes or fails.
/// - When `sync` has returned, the place holds exactly the bytes that were written last, as many as
///   were reserved.
/// - Where it can be [read back](Self::read_back): every write can be read as soon as it has
///   returned, and for as long as the sink exists; a `reserve` of the size that it has keeps every
///   byte, and after `reserve(0)` none of them comes back. Bytes that were never written read as
///   anything.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`, in bytes from the start of the bundle.
    ///
    /// # Errors
    ///
    /// When not all bytes could be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the place exactly `size` bytes long and starts over; takes the space now, if that is
    /// possible.
    ///
    /// # Errors
    ///
    /// When there is no room for `size` bytes.
    fn reserve(&self, size: u64) -> io::Result<()>;

    /// Is called when the bytes of a range are final: they were verified and are not written again.
    /// By default it does nothing.
    ///
    /// An upload in parts can send a part as soon as the settled ranges cover it. Bytes that an
    /// earlier run has left, and that were [read back](Self::read_back) and found right, are
    /// settled without being written.
    ///
    /// # Errors
    ///
    /// When the bytes could not be kept. The range then is not settled, and may be written again.
    fn settled(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Ok(())
    }

    /// Makes everything that was written durable.
    ///
    /// # Errors
    ///
    /// When something that was written may be lost.
    fn sync(&self) -> io::Result<()>;

    /// Returns what reads the bytes that were written, if they can be read. By default they cannot.
    ///
    /// Without it a bundle cannot be [resumed](crate::BundleWriter::resume), and has no
    /// [checksum](crate::BundleWriter::checksum) while it is written.
    fn read_back(&self) -> Option<&dyn ReadAt> {
        None
    }
}

macro_rules! forward_sink {
    ($($pointer:ty),+) => {$(
        impl<S: Sink + ?Sized> Sink for $pointer {
            fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
                (**self).write_at(bytes, offset)
            }

            fn reserve(&self, size: u64) -> io::Result<()> {
                (**self).reserve(size)
            }

            fn settled(&self, range: Range<u64>) -> io::Result<()> {
                (**self).settled(range)
            }

            fn sync(&self) -> io::Result<()> {
                (**self).sync()
            }

            fn read_back(&self) -> Option<&dyn ReadAt> {
                (**self).read_back()
            }
        }
    )+};
}

forward_sink!(&S, Box<S>, Arc<S>);
