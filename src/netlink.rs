//! Moves network devices into a container: `linux.netDevices`,
//! <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#network-devices>.
//!
//! Speaks rtnetlink(7) itself: five requests of two kinds are less than any library of it. What becomes
//! of a device after the move is not ours to manage: when the network namespace ends, the kernel brings
//! a physical device back to the first namespace and deletes a virtual one.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::error::{Error, Kind, Result};

/// More than one datagram of the kernel's ever holds.
const DATAGRAM_MAX: usize = 64 << 10;

/// How often a list of addresses may change while we read it.
const ATTEMPTS: usize = 16;

/// How many numbers are tried for a name with `%d`.
const NUMBERS: u32 = 4096;

/// Moves the device `name` of our network namespace into `netns` and calls it `new_name` there, where `%d`
/// stands for the first free number. The device keeps its permanent global addresses, its MTU and its MAC
/// address, and is up at the end. A move that is refused changes nothing; after a later failure the device
/// is in the namespace already.
///
/// # Errors
/// There is no such device; it cannot leave (such as `lo`); the namespace has a
/// device of the new name.
pub fn move_device(name: &str, new_name: &str, netns: BorrowedFd) -> Result<()> {
    let place = format!("/linux/netDevices/{}", name.replace('~', "~0").replace('/', "~1"));
    carry_over(name, new_name, netns).map_err(|error| error.at(place))
}

fn carry_over(name: &str, new_name: &str, netns: BorrowedFd) -> Result<()> {
    let failed = |call: &'static str| {
        move |errno| {
            Error::kernel(format!("cannot move network device {name} into the container"), call, errno)
        }
    };
    let outside = Socket::open().map_err(failed("socket"))?;
    let inside = Socket::open_in(netns).map_err(failed("setns"))?;
    let index = outside.index_of(name).map_err(failed("ioctl SIOCGIFINDEX"))?;
    let new_name = inside.free_name(new_name).map_err(failed("ioctl SIOCGIFINDEX"))?.ok_or_else(|| {
        let what = format!("cannot move network device {name} into the container");
        Error::new(Kind::Kernel, what).because(format!("it has a device {new_name} already"))
    })?;
    // Before the move, which is the end of all addresses.
    let addresses = outside.addresses(index).map_err(failed("RTM_GETADDR"))?;

    // Both at once: neither namespace ever sees the device by a name that may be somebody else's there.
    let mut request = Request::link(index, 0, 0);
    request.attribute(libc::IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    request.attribute(libc::IFLA_IFNAME, &[new_name.as_bytes(), b"\0"].concat());
    outside.perform(request).map_err(|errno| {
        let error = failed("RTM_NEWLINK")(errno);
        match errno {
            Errno::EINVAL => error.because("devices of its kind cannot leave their network namespace"),
            _ => error,
        }
    })?;

    // The number may be another there.
    let index = inside.index_of(&new_name).map_err(failed("ioctl SIOCGIFINDEX"))?;
    for address in &addresses {
        inside.perform(address.request(index)).map_err(failed("RTM_NEWADDR"))?;
    }
    let up = libc::IFF_UP as u32;
    inside.perform(Request::link(index, up, up)).map_err(failed("RTM_NEWLINK"))
}

/// An address of a device, as far as it is kept.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    /// Nobody else on the link has it.
    is_unique: bool,
    /// `IFA_LOCAL`, `IFA_ADDRESS` and `IFA_BROADCAST`. Not the label, which holds the device's name, nor
    /// what somebody else on the host manages, such as lifetimes and routes.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// The address that a message of RTM_GETADDR tells of; `None` if it is another device's, would not
    /// last, or means nothing beyond the link or the host.
    fn parse(body: &[u8], device: u32) -> Option<Address> {
        let &[family, prefix, flags, scope, ..] = body else { return None };
        let index = u32_at(body, 4)?;
        let mut flags = u32::from(flags);
        let mut attributes = Vec::new();
        for (kind, value) in Attributes(body.get(8..)?) {
            match kind {
                libc::IFA_FLAGS => flags = u32_at(value, 0)?,
                libc::IFA_LOCAL | libc::IFA_ADDRESS | libc::IFA_BROADCAST => {
                    attributes.push((kind, value.to_vec()));
                }
                _ => {}
            }
        }
        let kept = index == device && scope == libc::RT_SCOPE_UNIVERSE && flags & libc::IFA_F_PERMANENT != 0;
        let is_unique = flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) == 0;
        kept.then_some(Address { family, prefix, is_unique, attributes })
    }

    fn request(&self, device: u32) -> Request {
        let [a, b, c, d] = device.to_ne_bytes();
        // It was found out on the same link: not to ask again makes an IPv6 address usable at once.
        let is_known = i32::from(self.family) == libc::AF_INET6 && self.is_unique;
        let flags = if is_known { libc::IFA_F_NODAD as u8 } else { 0 };
        // struct ifaddrmsg
        let body = [self.family, self.prefix, flags, libc::RT_SCOPE_UNIVERSE, a, b, c, d];
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut request = Request::new(libc::RTM_NEWADDR, flags, &body);
        for (kind, value) in &self.attributes {
            request.attribute(*kind, value);
        }
        request
    }
}

/// One message to the kernel.
struct Request(Vec<u8>);

impl Request {
    /// `struct nlmsghdr` and what follows it.
    fn new(kind: u16, flags: i32, body: &[u8]) -> Request {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        bytes.extend_from_slice(body);
        Request(bytes)
    }

    /// RTM_NEWLINK of a device that exists: changes those of its flags that are in `change`.
    fn link(index: u32, flags: u32, change: u32) -> Request {
        // struct ifinfomsg
        let words = [0, index, flags, change].map(u32::to_ne_bytes);
        Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, words.as_flattened())
    }

    /// `struct rtattr`, its value, and padding.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = ATTRIBUTE + value.len();
        self.0.extend_from_slice(&(length as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
    }

    fn bytes(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
const ALIGNMENT: usize = 4;

/// What the kernel says about a list that changed while it was told (netlink(7) lacks it).
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A socket for one network namespace: it stays in the one it was made in.
struct Socket(OwnedFd);

impl Socket {
    fn open() -> nix::Result<Socket> {
        // NETLINK_ROUTE is 0, the family's own protocol.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
        socket.map(Socket).map_err(errno_of)
    }

    /// In `netns`. A thread of a moment's life goes there: a thread can be in another network namespace
    /// than its process, and this one has no way back to find.
    fn open_in(netns: BorrowedFd) -> nix::Result<Socket> {
        let open = || setns(netns, CloneFlags::CLONE_NEWNET).and_then(|()| Socket::open());
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, open);
            let thread =
                thread.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)))?;
            thread.join().unwrap_or(Err(Errno::ECANCELED))
        })
    }

    fn index_of(&self, name: &str) -> nix::Result<u32> {
        name_to_index(&self.0, name).map_err(errno_of)
    }

    fn is_free(&self, name: &str) -> nix::Result<bool> {
        match self.index_of(name) {
            Err(Errno::ENODEV) => Ok(true),
            index => index.map(|_| false),
        }
    }

    /// The name with the first number that makes it free; `None` if there is none.
    fn free_name(&self, name: &str) -> nix::Result<Option<String>> {
        let numbers = if name.contains("%d") { 0..NUMBERS } else { 0..1 };
        for number in numbers {
            let name = name.replacen("%d", &number.to_string(), 1);
            if self.is_free(&name)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn addresses(&self, device: u32) -> nix::Result<Vec<Address>> {
        for _ in 0..ATTEMPTS {
            let mut addresses = Vec::new();
            let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; 8]);
            match self.talk(request, |body| addresses.extend(Address::parse(body, device))) {
                Err(Errno::EINTR) => {}
                answer => return answer.map(|()| addresses),
            }
        }
        Err(Errno::EINTR)
    }

    fn perform(&self, request: Request) -> nix::Result<()> {
        self.talk(request, |_| {})
    }

    /// Sends a request and reads the answer to its end. EINTR: what it lists changed meanwhile.
    fn talk(&self, request: Request, mut each: impl FnMut(&[u8])) -> nix::Result<()> {
        send(&self.0, &request.bytes(), SendFlags::empty()).map_err(errno_of)?;
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut interrupted = false;
        loop {
            let length = loop {
                match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                    Err(rustix::io::Errno::INTR) => {}
                    answer => break answer.map_err(errno_of)?.0,
                }
            };
            for (kind, flags, body) in Messages(&buffer[..length]) {
                interrupted |= flags & NLM_F_DUMP_INTR != 0;
                match i32::from(kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        let errno = u32_at(body, 0).map_or(0, |errno| -(errno as i32));
                        return match errno {
                            0 if interrupted => Err(Errno::EINTR),
                            0 => Ok(()),
                            errno => Err(Errno::from_raw(errno)),
                        };
                    }
                    _ => each(body),
                }
            }
        }
    }
}

fn errno_of(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The messages of one datagram: kind, flags, what follows the header.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32_at(self.0, 0)? as usize;
        let message = self.0.get(..length)?;
        let item = (u16_at(message, 4)?, u16_at(message, 6)?, message.get(HEADER..)?);
        self.0 = self.0.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some(item)
    }
}

/// The attributes of one message: kind, value.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let item = (u16_at(self.0, 2)?, self.0.get(ATTRIBUTE..length)?);
        self.0 = self.0.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::process::{Child, Command, Stdio};

    use nix::sched::unshare;

    use super::*;

    /// A container's network namespace, kept by a process.
    struct Inside(Child, File);

    impl Inside {
        fn new() -> Inside {
            let mut child = Command::new("unshare")
                .args(["-n", "sh", "-c", "echo; exec sleep 60"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
            let netns = File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
            Inside(child, netns)
        }

        fn ip(&self, arguments: &str) -> String {
            output(&format!("nsenter --net=/proc/{}/ns/net ip {arguments}", self.0.id()))
        }
    }

    impl Drop for Inside {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn output(command: &str) -> String {
        let mut words = command.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts this thread, and what it starts, into a network namespace in the place of the host's.
    fn host() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// A device that every kernel has; the other end stays.
    fn pair(device: &str) -> String {
        format!("link add {device} type veth peer name {device}-peer")
    }

    fn add(device: &str) {
        output(&format!("ip {}", pair(device)));
    }

    #[test]
    fn a_device_moves_with_its_addresses_and_comes_up() {
        host();
        add("dev0");
        for address in [
            "192.0.2.7/24 brd 192.0.2.255 label dev0:x",
            "192.0.2.8/24",
            "198.51.100.1 peer 198.51.100.2/32",
            "2001:db8::7/64 nodad",
            "2001:db8::8/64",
        ] {
            output(&format!("ip addr add {address} dev dev0"));
        }
        // None of these is somebody's who will be there later.
        output("ip addr add 203.0.113.1/24 dev dev0 valid_lft 500 preferred_lft 400");
        output("ip addr add 169.254.1.1/16 scope link dev dev0");
        output("ip link set dev0-peer up");
        output("ip link set dev0 mtu 1400 address 02:00:00:00:00:07 up");
        let inside = Inside::new();
        move_device("dev0", "net1", inside.1.as_fd()).unwrap();

        assert!(!output("ip -o link").contains(" dev0@"));
        let link = inside.ip("-o link show net1");
        for expected in ["mtu 1400", "02:00:00:00:00:07", "<BROADCAST,MULTICAST,UP,LOWER_UP>"] {
            assert!(link.contains(expected), "{link}");
        }
        let addresses = inside.ip("-o addr show dev net1 scope global");
        for expected in [
            "192.0.2.7/24 brd 192.0.2.255 scope global net1",
            "192.0.2.8/24 scope global secondary net1",
            "198.51.100.1 peer 198.51.100.2/32 scope global net1",
            "2001:db8::7/64 scope global nodad",
            "2001:db8::8/64 scope global tentative",
        ] {
            assert!(addresses.contains(expected), "{expected}: {addresses}");
        }
        assert_eq!(addresses.lines().count(), 5, "{addresses}");
        assert!(!inside.ip("-o addr").contains("169.254"));
        assert!(inside.ip("route").contains("192.0.2.0/24 dev net1"));
    }

    #[test]
    fn a_pattern_takes_the_first_free_number() {
        host();
        let inside = Inside::new();
        inside.ip(&pair("eth0"));
        for name in ["eth0", "dev1"] {
            add(name);
            move_device(name, "eth%d", inside.1.as_fd()).unwrap();
        }
        let links = inside.ip("-o link");
        for name in ["eth0", "eth1", "eth2"] {
            assert!(links.contains(&format!(" {name}@")), "{links}");
        }
    }

    #[test]
    fn a_refused_move_changes_nothing() {
        host();
        let inside = Inside::new();
        inside.ip(&pair("taken"));
        add("dev0");
        output("ip addr add 192.0.2.7/24 dev dev0");
        output("ip link set dev0 up");
        let before = output("ip -o addr");
        let refusal = |name: &str, new_name: &str| {
            move_device(name, new_name, inside.1.as_fd()).unwrap_err().to_string()
        };
        assert_eq!(
            refusal("dev0", "taken"),
            "cannot move network device dev0 into the container (config.json#/linux/netDevices/dev0): it has \
             a device taken already"
        );
        assert_eq!(
            refusal("gone~", "x"),
            "cannot move network device gone~ into the container (config.json#/linux/netDevices/gone~0): \
             ioctl SIOCGIFINDEX: no such device"
        );
        assert_eq!(
            refusal("lo", "lo1"),
            "cannot move network device lo into the container (config.json#/linux/netDevices/lo): \
             RTM_NEWLINK: invalid argument: devices of its kind cannot leave their network namespace"
        );
        assert_eq!(output("ip -o addr"), before);
        assert!(!inside.ip("-o link").contains("dev0"));
    }

    #[test]
    fn a_number_that_is_taken_there_changes() {
        host();
        let inside = Inside::new();
        for number in 0..4 {
            inside.ip(&pair(&format!("x{number}")));
        }
        add("dev0");
        output("ip addr add 192.0.2.7/24 dev dev0");
        move_device("dev0", "dev0", inside.1.as_fd()).unwrap();
        assert!(inside.ip("-o addr show dev dev0").contains("192.0.2.7/24"));
    }

    #[test]
    fn long_lists_are_read_to_their_end() {
        host();
        add("dev0");
        let batch: String = (1..1500)
            .map(|number| format!("addr add 10.{}.{}.1/24 dev dev0\n", number / 250, number % 250))
            .collect();
        let path = std::env::temp_dir().join(format!("corten-netlink-{}", std::process::id()));
        std::fs::write(&path, batch).unwrap();
        output(&format!("ip -batch {}", path.display()));
        std::fs::remove_file(path).unwrap();
        let socket = Socket::open().unwrap();
        assert_eq!(socket.addresses(socket.index_of("dev0").unwrap()).unwrap().len(), 1499);
    }
}
