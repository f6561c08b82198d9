//! Routes of a namespace, by rtnetlink(7): one message, one answer. The `ip` program is not on every machine.

use std::io::{self, Read as _};

use socket2::{Domain, Protocol, Socket, Type};

/// `AF_NETLINK`, `NETLINK_ROUTE` and the numbers of <linux/rtnetlink.h> and <linux/netlink.h>.
const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWROUTE: u16 = 24;
/// A request whose success is answered too.
const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;
const AF_INET: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTA_OIF: u16 = 4;
const RTA_METRICS: u16 = 8;
const RTAX_CC_ALGO: u16 = 16;
const IFF_UP: u32 = 1;
/// The first device of every namespace.
const LOOPBACK: u32 = 1;

const HEADER_BYTES: usize = 16;

/// From now on this namespace sends everything to the device of this index; its streams, those that it accepts too, go by this
/// congestion control whatever the machine's default is.
pub(super) fn everything_to(device: u32, congestion: &str) -> io::Result<()> {
    // A destination of no bits: everything.
    let mut body = vec![
        AF_INET,
        0,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_STATIC,
        RT_SCOPE_LINK,
        RTN_UNICAST,
    ];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, RTA_OIF, &device.to_ne_bytes());
    let mut metrics = Vec::new();
    attribute(
        &mut metrics,
        RTAX_CC_ALGO,
        &[congestion.as_bytes(), b"\0"].concat(),
    );
    attribute(&mut body, RTA_METRICS, &metrics);
    ask(RTM_NEWROUTE, CREATE, &body)
}

/// A host reaches itself.
pub(super) fn loopback_up() -> io::Result<()> {
    let mut body = vec![0; 4];
    for word in [LOOPBACK, IFF_UP, IFF_UP] {
        body.extend(word.to_ne_bytes());
    }
    ask(RTM_NEWLINK, 0, &body)
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Both are shorter than any name of the kernel's.
    out.extend((4 + value.len() as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST_ACK | flags).to_ne_bytes());
    // The number of the message, and nobody's: the kernel answers whoever asked.
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    let mut socket = Socket::new(
        Domain::from(AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(NETLINK_ROUTE)),
    )?;
    socket.send(&message)?;
    let mut answer = [0; 4_096];
    let length = socket.read(&mut answer)?;
    match answer.get(..length.min(HEADER_BYTES + 4)) {
        Some([_, _, _, _, a, b, .., c, d, e, f]) if u16::from_ne_bytes([*a, *b]) == NLMSG_ERROR => {
            match i32::from_ne_bytes([*c, *d, *e, *f]) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(-error)),
            }
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "an answer of the kernel that answers nothing",
        )),
    }
}
