//! The kinds of Apple devices, with the names and numbers that such devices really carry.
//!
//! Names and builds are those of Apple's catalogue for the 26.1 releases; identifiers are random in
//! the form of each platform (Apple silicon: chip and 64-bit ECID; Macs: the hardware UUID).
//!
//! **Invariant:** everything here is a fact about a model; state belongs to [`super::device`].

use crate::id;

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// iPhone 16.
    IPhone,
    /// iPad (A16).
    IPad,
    /// MacBook Air, with a user who is logged in.
    Mac,
    /// Apple TV 4K.
    AppleTv,
    /// Apple Watch Series 10.
    Watch,
    /// Apple Vision Pro.
    Vision,
}

/// The facts about a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub(super) product_name: &'static str,
    pub(super) model_name: &'static str,
    pub(super) model: &'static str,
    pub(super) os_version: &'static str,
    pub(super) build_version: &'static str,
    /// Of the status item `device.model.family`.
    pub(super) family: &'static str,
    /// Of the status item `device.operating-system.family`.
    pub(super) os_family: &'static str,
    pub(super) marketing_name: &'static str,
    pub(super) user_agent: &'static str,
    /// Gigabytes.
    pub(super) capacity: f64,
}

impl Kind {
    /// All of them, in the order in which a fleet takes turns.
    pub const ALL: [Self; 6] =
        [Self::IPhone, Self::Mac, Self::IPad, Self::AppleTv, Self::Watch, Self::Vision];

    pub(super) fn model(self) -> Model {
        let ios = Model {
            product_name: "iPhone17,3",
            model_name: "iPhone",
            model: "MYEF3ZD/A",
            os_version: "26.1",
            build_version: "23B85",
            family: "iPhone",
            os_family: "iOS",
            marketing_name: "iPhone 16",
            user_agent: "MDM/1.0",
            capacity: 128.0,
        };
        match self {
            Self::IPhone => ios,
            Self::IPad => Model {
                product_name: "iPad15,7",
                model_name: "iPad",
                model: "MD3Y4NF/A",
                family: "iPad",
                os_family: "iPadOS",
                marketing_name: "iPad (A16)",
                ..ios
            },
            Self::Mac => Model {
                product_name: "Mac16,12",
                model_name: "MacBook Air",
                model: "MW0W3D/A",
                build_version: "25B78",
                family: "Mac",
                os_family: "macOS",
                marketing_name: "MacBook Air (13-inch, M4, 2025)",
                user_agent: "MDM-OSX/1.0 mdmclient/2028",
                capacity: 256.0,
                ..ios
            },
            Self::AppleTv => Model {
                product_name: "AppleTV14,1",
                model_name: "Apple TV",
                model: "MN893FD/A",
                build_version: "23J582",
                family: "AppleTV",
                os_family: "tvOS",
                marketing_name: "Apple TV 4K (3rd generation)",
                ..ios
            },
            Self::Watch => Model {
                product_name: "Watch7,8",
                model_name: "Apple Watch",
                model: "MWWE3QF/A",
                build_version: "23S37",
                family: "Watch",
                os_family: "watchOS",
                marketing_name: "Apple Watch Series 10",
                capacity: 64.0,
                ..ios
            },
            Self::Vision => Model {
                product_name: "RealityDevice14,1",
                model_name: "Apple Vision Pro",
                model: "MQL83LL/A",
                build_version: "23N49",
                family: "RealityDevice",
                os_family: "visionOS",
                marketing_name: "Apple Vision Pro",
                capacity: 256.0,
                ..ios
            },
        }
    }

    /// Whether the device has a passcode that an unlock token can clear.
    pub(super) fn has_unlock_token(self) -> bool {
        matches!(self, Self::IPhone | Self::IPad | Self::Vision | Self::Watch)
    }

    pub(super) fn has_battery(self) -> bool {
        self != Self::AppleTv
    }

    pub(super) fn has_cellular(self) -> bool {
        matches!(self, Self::IPhone | Self::Watch)
    }

    /// A random UDID in the form of the platform.
    pub(super) fn udid(self) -> String {
        let chip = match self {
            Self::Mac => return id::uuid(),
            Self::IPhone => "00008140",
            Self::IPad => "00008120",
            Self::AppleTv => "00008110",
            Self::Watch => "00008310",
            Self::Vision => "00008112",
        };
        let mut unique = id::random::<8>();
        // Chip unique identifiers leave their highest bits zero.
        unique[0] = 0;
        unique[1] &= 0x1f;
        format!("{chip}-{}", id::hex(&unique).to_uppercase())
    }

    /// A random serial number of ten characters, as Apple has issued them since 2021.
    pub(super) fn serial_number() -> String {
        const LETTERS: &[u8] = b"0123456789CDFGHJKLMNPQRTVWXY";
        id::random::<10>()
            .iter()
            .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
            .collect()
    }

    /// The name that a person would have given it.
    pub(super) fn name(self, number: usize) -> String {
        const PEOPLE: [&str; 12] = [
            "Ada", "Grace", "Alan", "Edsger", "Barbara", "Dennis", "Radia", "Ken", "Frances", "Donald",
            "Margaret", "Tony",
        ];
        let person = PEOPLE[number % PEOPLE.len()];
        let model = self.model();
        match self {
            Self::AppleTv => format!("Room {} Apple TV", number + 1),
            _ => format!("{person}’s {}", model.model_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_the_form_of_their_platform() {
        for kind in Kind::ALL {
            let udid = kind.udid();
            let expected: &[usize] = if kind == Kind::Mac { &[8, 4, 4, 4, 12] } else { &[8, 16] };
            assert_eq!(udid.split('-').map(str::len).collect::<Vec<_>>(), expected, "{udid}");
            assert_eq!(udid, udid.to_uppercase());
        }
        assert_eq!(Kind::serial_number().len(), 10);
    }
}
