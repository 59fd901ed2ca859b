//! Who the machine is: its clock, id and host name, and what kubelet is to be told besides.
//!
//! Decided once, before anything else runs, and held in process 1's memory from there: what pods make of the kernel's host
//! name or of the files later changes no start of kubelet's.

use core::ffi::CStr;
use heapless::Vec;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, symlinkat};
use rustix::io::{Errno, read, write};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::system::sethostname;

use super::{Machine, Step, inputs, kubeconfig};
use crate::error::{During, Error, Result};
use crate::plan;
use crate::sys::fd::Fd;
use crate::sys::memory::{self, Copy};
use crate::sys::process::STRINGS_MAX;
use crate::sys::text::{Text, t};
use crate::sys::{clock, file, net};
use crate::{report, state};

/// An argument made at boot, with the NUL at its end.
type Argument = Vec<u8, { plan::ARGUMENT_BYTES }>;

/// kubelet's way into a cluster.
pub struct Cluster {
    /// Its kubeconfig, or the one that it makes that by.
    pub kubeconfig: Fd,
    /// The certificate authority in that: who asks kubelet's server for something has a certificate of it.
    pub authority: Fd,
    arguments: &'static [&'static CStr],
}

/// Who the machine is.
pub struct Identity {
    name: Vec<u8, { inputs::NAME_BYTES }>,
    /// 32 digits and the end of their line.
    machine_id: [u8; 33],
    /// kubelet's host name, addresses and labels.
    made: [Argument; 3],
    cluster: Option<Cluster>,
}

impl Default for Identity {
    fn default() -> Identity {
        Identity { name: Vec::new(), machine_id: [b'\n'; 33], made: [const { Argument::new() }; 3], cluster: None }
    }
}

impl Identity {
    /// The machine's id, as machine-id(5) has it in its file.
    pub fn machine_id(&self) -> &[u8] {
        &self.machine_id
    }

    /// kubelet's way into a cluster, if it has one.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// The host name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// All of kubelet's arguments: `fixed`, and those of this machine.
    pub fn arguments<'a>(&'a self, fixed: &[&'a CStr]) -> Vec<&'a CStr, STRINGS_MAX> {
        let made = self.made.iter().filter_map(|argument| CStr::from_bytes_with_nul(argument).ok());
        let cluster = self.cluster.as_ref().map_or(&[][..], |cluster| cluster.arguments);
        let mut arguments = Vec::new();
        for argument in fixed.iter().copied().chain(made).chain(cluster.iter().copied()) {
            // plan.rs asserts that there is room.
            let _ = arguments.push(argument);
        }
        arguments
    }
}

/// Decides it.
pub fn set(step: &mut Step, machine: &mut Machine) -> Result<()> {
    let state = if machine.disk.is_some() { step.check(state::directory().during(plan::STATE)) } else { None };
    set_clock(step, state.as_ref());
    let identity = &mut machine.identity;
    identity.machine_id = machine_id(step, state.as_ref());
    take_inputs(step, identity);
    if identity.name.is_empty() {
        for part in [plan::HOSTNAME, &inputs::digits(&identity.machine_id)] {
            let _ = identity.name.extend_from_slice(part);
        }
    }
    report::line().text(c"host name ").bytes(&identity.name).send();
    let [host_name, ..] = &mut identity.made;
    *host_name = argument(plan::NAME_ARGUMENT, &identity.name);
    step.check(sethostname(&identity.name).during(c"set host name"));
    step.check(net::loopback_up().during(c"bring up lo"));
    for &(target, link) in plan::LINKS {
        match symlinkat(target.get(), CWD, link.get()) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => step.degrade(Error::new(link, errno)),
        }
    }
    step.check(mkdirat(CWD, plan::RESOLV, Mode::from_raw_mode(0o755)).during(plan::RESOLV));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
    let made = file::create(CWD, plan::RESOLV_CONF, flags, Mode::from_raw_mode(0o644));
    step.check(made.during(plan::RESOLV_CONF));
    Ok(())
}

/// Sets a clock that cannot be right to the latest time that is known to be past.
fn set_clock(step: &mut Step, state: Option<&Fd>) {
    let saved = state.and_then(|state| state::saved_time(state).ok()).filter(|saved| *saved <= plan::CLOCK_LAST);
    let floor = saved.unwrap_or(0).max(plan::CLOCK_FIRST);
    let now = clock::now();
    if !(floor..=plan::CLOCK_LAST).contains(&now) {
        report::line().text(c"clock ").number(now).text(c" cannot be right, set to ").number(floor).send();
        step.check(clock::set(floor).during(c"set clock"));
    }
}

/// The machine's id with a line's end: the one that was kept, or the one its maker gave it, or a new one. One that is none is
/// named, and another put in its place; one that cannot be read is not lost.
fn machine_id(step: &mut Step, state: Option<&Fd>) -> [u8; 33] {
    let mut space = [0; 64];
    let name = t(plan::MACHINE_ID);
    let kept = state.map_or(Err(Errno::NOENT), |state| take(state, name, &mut space, inputs::machine_id));
    let errno = match kept {
        Ok(id) => return with_line_end(id),
        Err(errno) => errno,
    };
    if errno != Errno::NOENT {
        step.degrade(Error::new(name, errno));
    }
    let product = file::open(CWD, plan::PRODUCT_ID, OFlags::RDONLY).and_then(|file| read(&file, &mut space));
    let product = product.ok().and_then(|got| inputs::product_id(space.get(..got)?));
    let id = with_line_end(&product.unwrap_or_else(random_id));
    if let Some(state) = state
        && LOST.contains(&errno)
    {
        step.check(state::put(state, plan::MACHINE_ID, &id, None).during(name));
    }
    id
}

/// What a file answers that is there no more, or is certainly not what init put there.
const LOST: [Errno; 4] = [Errno::NOENT, Errno::INVAL, Errno::TOOBIG, Errno::LOOP];

fn with_line_end(id: &[u8]) -> [u8; 33] {
    let mut line = [b'\n'; 33];
    for (to, from) in line.iter_mut().zip(id) {
        *to = *from;
    }
    line
}

/// A random UUID's digits (RFC 9562, version 4). An id need not be secret: before the kernel's generator is ready it is what
/// there is.
fn random_id() -> [u8; 32] {
    let mut bytes = [0; 16];
    let _ = getrandom(&mut bytes, GetRandomFlags::INSECURE);
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let mut id = [b'0'; 32];
    for (digit, nibble) in id.iter_mut().zip(bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f])) {
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    id
}

/// `name` and what follows, lines with commas between; plan.rs asserts that there is room.
fn argument(name: &[u8], value: &[u8]) -> Argument {
    let joined = value.iter().map(|byte| if *byte == b'\n' { b',' } else { *byte });
    let mut argument = Argument::new();
    for byte in name.iter().copied().chain(joined).chain([0]) {
        let _ = argument.push(byte);
    }
    argument
}

/// Takes each file that is there and good; names each that is not.
fn take_inputs(step: &mut Step, identity: &mut Identity) {
    let how = OFlags::RDONLY | OFlags::DIRECTORY;
    let Some(directory) = step.check(file::open(CWD, plan::INPUT_DIRECTORY, how).during(plan::INPUT_DIRECTORY)) else {
        return;
    };
    let mut space = [0; plan::INPUT_BYTES];
    if let Some(name) = given(step, plan::NAME_INPUT, take(&directory, plan::NAME_INPUT, &mut space, inputs::host_name))
    {
        let _ = identity.name.extend_from_slice(name);
    }
    let [_, addresses, labels] = &mut identity.made;
    for (input, start, parse, made) in [
        (plan::ADDRESSES_INPUT, plan::ADDRESSES_ARGUMENT, inputs::node_ip as Parse, addresses),
        (plan::LABELS_INPUT, plan::LABELS_ARGUMENT, inputs::labels, labels),
    ] {
        if let Some(value) = given(step, input, take(&directory, input, &mut space, parse)) {
            *made = argument(start, value);
        }
    }
    for input in plan::KUBECONFIGS {
        let cluster = given(step, input.name, take_kubeconfig(&directory, &input));
        if identity.cluster.is_none() {
            identity.cluster = cluster;
        }
    }
}

/// What is there and good; names what is there and not good.
fn given<T>(step: &mut Step, name: Text, taken: rustix::io::Result<T>) -> Option<T> {
    match taken {
        Ok(value) => Some(value),
        Err(Errno::NOENT) => None,
        Err(errno) => {
            step.degrade(Error::new(name, errno));
            None
        }
    }
}

type Parse = fn(&[u8]) -> Option<&[u8]>;

/// What `parse` finds good of a file's bytes, read into `space`. Errors: EINVAL for none; of [`file::read_small`].
fn take<'a>(directory: &Fd, name: Text, space: &'a mut [u8], parse: Parse) -> rustix::io::Result<&'a [u8]> {
    file::read_small(directory, name.get(), space).and_then(|bytes| parse(bytes).ok_or(Errno::INVAL))
}

/// A kubeconfig, which stays what it was found to be. Errors: EINVAL for none; of [`file::regular`] and [`Copy::of`].
fn take_kubeconfig(directory: &Fd, input: &plan::Input) -> rustix::io::Result<Cluster> {
    let copy = Copy::of(&file::regular(directory, input.name.get())?, plan::KUBECONFIG_BYTES)?;
    let authority = memory::file()?;
    copy.with(|bytes| {
        let text = kubeconfig::authority(bytes).ok_or(Errno::INVAL)?;
        kubeconfig::decoded(text).try_for_each(|part| write(&authority, &part).map(|_| ()))
    })??;
    memory::seal(&authority)?;
    Ok(Cluster { kubeconfig: copy.into_file(), authority, arguments: input.arguments })
}
