//! A disk with a volatile cache, for power cuts: an NBD server (the NBD project's doc/proto.md) that QEMU has for its
//! disk. What the machine wrote and did not flush is in this process's memory alone, and a cut loses it.
//!
//! Simulated: a cache that is written back in any order, so that of the writes since the last flush any part may be on the
//! disk, whole or torn between blocks; writes that were on their way when the power went. Not simulated: a block that is
//! torn or damaged in itself (disks write theirs whole, by what is left in their capacitors), a disk that lies about
//! flushes, other blocks that suffer from a cut. Neither is the machine's side: QEMU just ends, where memory and the bus of
//! hardware decay while the power goes.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Random;
use crate::vm::scratch;

/// What a disk writes whole or not at all: today's have physical sectors of that size.
const BLOCK: usize = 4096;
/// What a flush takes; as long there is something to lose.
const FLUSH_TIME: Duration = Duration::from_millis(5);
/// More than QEMU asks for at once.
const MOST: usize = 32 << 20;

const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 1 << 31 | 1;
/// Fixed newstyle, and no zeroes after the export.
const HANDSHAKE: u16 = 1 | 2;
/// That there are flags, and flushes.
const EXPORT: u16 = 1 | 4;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;

/// A file as a disk, while no machine uses it.
pub struct Disk {
    file: File,
    /// What was written since the last flush, oldest first: where, and what.
    cache: Vec<(u64, Vec<u8>)>,
    power: Arc<AtomicBool>,
}

/// What became of the writes that were not flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    pub kept: usize,
    pub torn: usize,
    pub lost: usize,
}

impl Disk {
    pub fn open(path: &Path) -> Disk {
        let file = File::options().read(true).write(true).open(path).expect("disk");
        Disk { file, cache: Vec::new(), power: Arc::new(AtomicBool::new(true)) }
    }

    /// Is the disk of one machine from now on.
    pub fn serve(self) -> Served {
        let socket = scratch(&format!("disk.{}", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let power = self.power.clone();
        let listener = UnixListener::bind(&socket).expect("socket for the disk");
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a machine");
            let mut disk = self;
            // A cut ends it anywhere; where the machine goes on, it sees that its disk does not.
            let _ = disk.talk(&stream);
            disk
        });
        Served { socket, power, thread }
    }

    fn talk(&mut self, mut stream: &UnixStream) -> Result<()> {
        let size = self.file.metadata()?.len();
        stream.write_all(&[&b"NBDMAGICIHAVEOPT"[..], &HANDSHAKE.to_be_bytes()].concat())?;
        let _flags: [u8; 4] = take(stream)?;
        loop {
            check(u64::from_be_bytes(take(stream)?) == OPTION_MAGIC)?;
            let option = u32::from_be_bytes(take(stream)?);
            take_some(stream, u32::from_be_bytes(take(stream)?))?;
            let mut reply = |kind: u32, data: &[u8]| {
                let length = data.len() as u32;
                let head = [option, kind, length].map(u32::to_be_bytes).concat();
                stream.write_all(&[&OPTION_REPLY.to_be_bytes(), &head[..], data].concat())
            };
            match option {
                OPTION_GO => {
                    let export = [&0u16.to_be_bytes()[..], &size.to_be_bytes(), &EXPORT.to_be_bytes()].concat();
                    reply(REPLY_INFO, &export)?;
                    reply(REPLY_ACK, &[])?;
                    break;
                }
                OPTION_ABORT => return reply(REPLY_ACK, &[]),
                _ => reply(REPLY_UNSUPPORTED, &[])?,
            }
        }
        loop {
            check(u32::from_be_bytes(take(stream)?) == REQUEST_MAGIC)?;
            let [_, _, high, low] = take(stream)?;
            let handle: [u8; 8] = take(stream)?;
            let offset = u64::from_be_bytes(take(stream)?);
            let length = u32::from_be_bytes(take(stream)?);
            check(self.power.load(Ordering::SeqCst))?;
            let data = match u16::from_be_bytes([high, low]) {
                READ => self.read(offset, length as usize)?,
                WRITE => {
                    self.cache.push((offset, take_some(stream, length)?));
                    Vec::new()
                }
                FLUSH => {
                    std::thread::sleep(FLUSH_TIME);
                    check(self.power.load(Ordering::SeqCst))?;
                    self.flush().map(|()| Vec::new())?
                }
                DISCONNECT => return Ok(()),
                _ => return check(false),
            };
            stream.write_all(&[&REPLY_MAGIC.to_be_bytes()[..], &[0; 4], &handle, &data].concat())?;
        }
    }

    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut data = vec![0; length];
        self.file.read_exact_at(&mut data, offset)?;
        let end = offset + length as u64;
        for (at, written) in &self.cache {
            let (from, to) = (offset.max(*at), end.min(at + written.len() as u64));
            if from < to {
                let (here, there) = ((from - offset) as usize, (from - at) as usize);
                let size = (to - from) as usize;
                data[here..here + size].copy_from_slice(&written[there..there + size]);
            }
        }
        Ok(data)
    }

    fn flush(&mut self) -> Result<()> {
        for (at, data) in self.cache.drain(..) {
            self.file.write_all_at(&data, at)?;
        }
        Ok(())
    }

    /// Without power: of each write that was not flushed, all, some blocks or nothing is there. How much survives is random
    /// too, from nothing to everything.
    fn lose(&mut self, random: &mut Random) -> Loss {
        let mut loss = Loss::default();
        let survives = random.below(101);
        for (at, data) in std::mem::take(&mut self.cache) {
            let mut kept = 0;
            let tears = random.below(4) == 0;
            let whole = random.below(100) < survives;
            // The first block may begin within one of the disk's.
            let first = (BLOCK - at as usize % BLOCK).min(data.len());
            let (head, rest) = data.split_at(first);
            let mut from = at;
            let blocks: Vec<_> = std::iter::once(head).chain(rest.chunks(BLOCK)).collect();
            for block in &blocks {
                if if tears { random.below(100) < survives } else { whole } {
                    self.file.write_all_at(block, from).expect("write to disk");
                    kept += 1;
                }
                from += block.len() as u64;
            }
            *match kept {
                0 => &mut loss.lost,
                _ if kept == blocks.len() => &mut loss.kept,
                _ => &mut loss.torn,
            } += 1;
        }
        loss
    }
}

/// A machine's disk.
pub struct Served {
    socket: PathBuf,
    power: Arc<AtomicBool>,
    thread: JoinHandle<Disk>,
}

impl Served {
    /// As QEMU names it.
    pub fn url(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    /// Cuts the disk's power: from now on it does nothing, and answers nothing.
    pub fn power_off(&self) {
        self.power.store(false, Ordering::SeqCst);
    }

    /// The machine is gone too: what became of the disk.
    pub fn end(self, random: &mut Random) -> Loss {
        // QEMU may have ended before it came here.
        let _ = UnixStream::connect(&self.socket);
        let mut disk = self.thread.join().expect("the disk's thread");
        let _ = std::fs::remove_file(&self.socket);
        disk.lose(random)
    }
}

fn check(holds: bool) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::from(ErrorKind::InvalidData)) }
}

fn take<const N: usize>(mut stream: &UnixStream) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map(|()| bytes)
}

fn take_some(mut stream: &UnixStream, length: u32) -> Result<Vec<u8>> {
    check(length as usize <= MOST)?;
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).map(|()| bytes)
}

/// A cut loses nothing that was flushed, and of the rest something in the long run: else no test here could fail.
#[test]
fn a_cut_loses_what_was_not_flushed() {
    let path = scratch("disk-of-blocks");
    let mut random = Random(1);
    let (mut seen, mut torn) = ([false; 3], false);
    for _ in 0..50 {
        std::fs::write(&path, vec![0; 8 * BLOCK]).unwrap();
        let mut disk = Disk::open(&path);
        disk.cache.push((0, vec![1; 4 * BLOCK]));
        disk.flush().unwrap();
        disk.cache.push((BLOCK as u64, vec![2; 2 * BLOCK]));
        disk.cache.push((7 * BLOCK as u64, vec![3; BLOCK]));
        let read: Vec<_> = disk.read(512, 3 * BLOCK).unwrap().iter().step_by(BLOCK).copied().collect();
        assert_eq!(read, [1, 2, 2]);
        assert_eq!(disk.read(8 * BLOCK as u64 - 1, 1).unwrap(), [3]);
        let loss = disk.lose(&mut random);
        assert_eq!((loss.kept + loss.torn + loss.lost, disk.cache.len()), (2, 0));
        let left: Vec<_> = std::fs::read(&path).unwrap().iter().step_by(BLOCK).copied().collect();
        assert_eq!((left[0], &left[3..7]), (1, &[1, 0, 0, 0][..]));
        seen[2 - usize::from(left[1] == 2) - usize::from(left[2] == 2)] = true;
        torn |= left[1] != left[2] && loss.torn == 1;
    }
    assert!(seen == [true; 3] && torn, "{seen:?} {torn}");
}
