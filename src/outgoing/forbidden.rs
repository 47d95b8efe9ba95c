//! Addresses that are never dialled. crib-init is compiled with this file as well: nothing but `std`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is one that nobody means to have asked: link-local ones, among them those at which
/// clouds serve metadata and credentials, and the few of clouds that are not link-local.
pub(super) fn forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                // Metadata of Alibaba Cloud and of Oracle Cloud Classic, and the host of a machine on Azure.
                || matches!(v4.octets(), [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16])
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.is_multicast()
                // Metadata of AWS.
                || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
                || embedded(v6).is_some_and(|v4| forbidden(IpAddr::V4(v4)))
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, or by NAT64.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., high, low] = v6.segments();
    let nat64 = v6.segments().starts_with(&[0x64, 0xff9b, 0, 0, 0, 0]);
    let v4 = || Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    if nat64 { Some(v4()) } else { v6.to_ipv4() }
}
