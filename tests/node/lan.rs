//! A network with a DHCP server that offers what QEMU's restricted network does not: a gateway and a name server.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::gate::{ROOM, scenario};
use crate::lines::power_off;
use crate::vm::{boot, scratch};

const ADDRESS: [u8; 4] = [192, 0, 2, 7];
const SERVER: [u8; 4] = [192, 0, 2, 1];
const NAMES: [u8; 4] = [192, 0, 2, 53];

/// Where the BOOTP message begins: after the Ethernet (14), IPv4 (20) and UDP (8) headers; its options after 236 bytes
/// and the magic cookie (RFC 2131, section 2).
const MESSAGE: usize = 42;
const OPTIONS: usize = MESSAGE + 240;

/// Answers DHCP requests on QEMU's datagram network until it is over; how many.
fn serve(socket: &UnixDatagram, qemu: &Path, over: &AtomicBool) -> usize {
    let mut answered = 0;
    let mut frame = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        let length = socket.recv(&mut frame).unwrap_or(0);
        if let Some(answer) = answer(&frame[..length]) {
            socket.send_to(&answer, qemu).expect("QEMU's socket");
            answered += 1;
        }
    }
    answered
}

/// The value of a DHCP option (RFC 2132).
fn option(frame: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = frame.get(OPTIONS..)?;
    while let [code, length, tail @ ..] = rest {
        let (value, after) = tail.split_at_checked((*length).into())?;
        if *code == wanted {
            return Some(value);
        }
        rest = after;
    }
    None
}

/// The frame that answers a discover (1) by an offer (2), and a request (3) by an acknowledgement (5).
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let is_dhcp = frame.get(12..14)? == [8, 0] && frame.get(23)? == &17 && frame.get(36..38)? == [0, 67];
    if !is_dhcp {
        return None;
    }
    let kind = match option(frame, 53)? {
        [1] => 2,
        [3] => 5,
        _ => return None,
    };
    let mut message = frame[MESSAGE..OPTIONS].to_vec();
    message[0] = 2;
    message[16..20].copy_from_slice(&ADDRESS);
    message.extend([53, 1, kind, 51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0]);
    for (code, value) in [(54, SERVER), (3, SERVER), (6, NAMES)] {
        message.extend([code, 4]);
        message.extend(value);
    }
    message.extend([15, 12]);
    message.extend(b"kios.example");
    message.push(255);
    message.resize(300, 0);

    let udp = u16::try_from(8 + message.len()).unwrap();
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&(20 + udp).to_be_bytes());
    ip.extend(SERVER);
    ip.extend([255; 4]);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut answer = [[0xff; 6], [2, 0, 0, 0, 0, 1]].concat();
    answer.extend([8, 0]);
    answer.extend(ip);
    // Ports 67 to 68; no checksum (RFC 768).
    answer.extend([0, 67, 0, 68, udp.to_be_bytes()[0], udp.to_be_bytes()[1], 0, 0]);
    answer.extend(message);
    Some(answer)
}

/// A pod that shows the name servers it was given. Put there whole: kubelet looks again at what it could not read after 20 s.
const READER: &str = "sed -e 's/container-a/reader/;s/localhost.reader/localhost\\/container-a/' \
    -e 's|^      image:|      command: [\"/bin/busybox\", sh, -c, \"sed s/^/reader:_/ /etc/resolv.conf >/host/console; sleep 600\"]\\n&|' \
    /host/etc/kubernetes/manifests/container-a.yaml >/host/etc/kubernetes/reader && \
    mv /host/etc/kubernetes/reader /host/etc/kubernetes/manifests/reader.yaml";

/// The DHCP pod writes what the lease says, the node's resolv.conf is a link to it, and a pod started then is given it.
#[test]
fn lease_with_gateway_and_name_server() {
    scenario("lease_with_gateway_and_name_server", ROOM, |scenario| {
        let (ours, qemus) = (scratch("lan.ours"), scratch("lan.qemu"));
        for path in [&ours, &qemus] {
            let _ = fs::remove_file(path);
        }
        let socket = UnixDatagram::bind(&ours).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let network = format!(
            "dgram,id=lan,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            qemus.display(),
            ours.display()
        );
        let card = ["-netdev", &network, "-device", "virtio-net-pci,netdev=lan,romfile="];
        let mut vm = boot(scenario).shell().qemu(&card).start();
        vm.wait_for("dhcpcd: bound eth0 10.0.2.15/24");
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let server = threads.spawn(|| serve(&socket, &qemus, &over));
            // The pod's own client and script, on the second card.
            let client = "ip link set eth1 up && udhcpc -f -q -n -t 20 -T 1 -i eth1 -s /bin/lease";
            let said = vm.attempt(&format!("nsenter -t $(pidof udhcpc) -m /bin/busybox sh -c '{client}'"));
            over.store(true, Ordering::Relaxed);
            scenario.note(&format!("{} DHCP messages answered: {said:?}", server.join().unwrap()));
            assert_eq!(said.0, 0);
        });
        let links =
            vm.sh("readlink /host/etc/resolv.conf; readlink /host/run/resolv.conf; cat /host/run/resolv/resolv.conf");
        let file = "search kios.example\nnameserver 192.0.2.53";
        assert_eq!(links, format!("/run/resolv.conf\nresolv/resolv.conf\n{file}"));
        assert!(vm.sh("ip route").contains("default via 192.0.2.1 dev eth1"));
        vm.wait_for("dhcpcd: bound eth1 192.0.2.7/24 gateway 192.0.2.1 name server 192.0.2.53");
        vm.sh(READER);
        vm.wait_for("reader:_nameserver 192.0.2.53");
        // The name server is silent, and nobody waits for it.
        let took = power_off(scenario, &mut vm);
        assert!(took < Duration::from_secs(15), "{took:?}");
    });
}
