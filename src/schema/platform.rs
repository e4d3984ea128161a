//! Apple's operating systems, and the order of their versions.
//!
//! Called where a table's `os` is held against a device.
//!
//! **Invariant:** versions are compared part by part as numbers, never as text: 17.10 is newer than 17.9.

use std::cmp::Ordering;

/// An operating system as Apple's tables count them: iPadOS is iOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Platform {
    Ios,
    MacOs,
    TvOs,
    VisionOs,
    WatchOs,
}

impl Platform {
    pub const ALL: [Self; 5] = [Self::Ios, Self::MacOs, Self::TvOs, Self::VisionOs, Self::WatchOs];

    /// As Apple writes it, and as the tables do.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ios => "iOS",
            Self::MacOs => "macOS",
            Self::TvOs => "tvOS",
            Self::VisionOs => "visionOS",
            Self::WatchOs => "watchOS",
        }
    }

    /// The system of a device by its ProductName, as in `iPhone17,3`; nothing if it is none that we know.
    pub fn of_product(product_name: &str) -> Option<Self> {
        let family = product_name.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
        match family {
            "iPhone" | "iPad" | "iPod" => Some(Self::Ios),
            "AppleTV" => Some(Self::TvOs),
            "RealityDevice" => Some(Self::VisionOs),
            "Watch" => Some(Self::WatchOs),
            // MacBookPro, Macmini, iMacPro, VirtualMac; Apple silicon is plain Mac.
            family if family.contains("Mac") => Some(Self::MacOs),
            _ => None,
        }
    }
}

/// The order of two versions. A part that is absent is 0, and what follows a part's digits (as in
/// Rapid Security Responses) decides last.
pub fn compare_versions(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.trim().split('.'), other.trim().split('.'));
    loop {
        let (a, b) = match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) => (part(a.unwrap_or_default()), part(b.unwrap_or_default())),
        };
        match a.cmp(&b) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
}

/// A part as something that compares like its number, however many digits it has.
fn part(text: &str) -> (usize, &str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let digits = digits.trim_start_matches('0');
    (digits.len(), digits, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        for (one, order, other) in [
            ("17.10", Ordering::Greater, "17.9.3"),
            ("17", Ordering::Equal, "17.0.0"),
            ("9.0", Ordering::Less, "15.0"),
            ("26.01", Ordering::Equal, "26.1"),
            ("16.4.1", Ordering::Greater, "16.4"),
            ("16.4.1 (a)", Ordering::Greater, "16.4.1"),
            ("", Ordering::Less, "1"),
            ("99999999999999999999999.1", Ordering::Greater, "99999999999999999999998"),
            ("x", Ordering::Greater, "0"),
        ] {
            assert_eq!(compare_versions(one, other), order, "{one} {other}");
            assert_eq!(compare_versions(other, one), order.reverse(), "{other} {one}");
        }
    }

    #[test]
    fn a_product_name_says_the_platform() {
        for (product, platform) in [
            ("iPhone17,3", Some(Platform::Ios)),
            ("iPad15,7", Some(Platform::Ios)),
            ("Mac16,12", Some(Platform::MacOs)),
            ("MacBookPro18,1", Some(Platform::MacOs)),
            ("VirtualMac2,1", Some(Platform::MacOs)),
            ("AppleTV14,1", Some(Platform::TvOs)),
            ("RealityDevice14,1", Some(Platform::VisionOs)),
            ("Watch7,8", Some(Platform::WatchOs)),
            ("HomePod1,1", None),
            ("", None),
        ] {
            assert_eq!(Platform::of_product(product), platform, "{product}");
        }
    }
}
