//! AccessRights in plain words: what the organization will be able to see and to do.
//!
//! The bits are those of Apple's `com.apple.mdm` payload.
//!
//! **Invariant:** a sentence is shown exactly when the profile asks for the right.

use super::visitor::Language;

/// The rights of one kind: the bit, in English, in German.
type Rights = [(u16, &'static str, &'static str)];

const SEE: &Rights = &[
    (
        16,
        "Name, model, serial number, system version, storage and battery",
        "Name, Modell, Seriennummer, Systemversion, Speicherplatz und Batterie",
    ),
    (
        32,
        "Phone number, carrier and network addresses of the device",
        "Telefonnummer, Mobilfunkanbieter und Netzwerkadressen des Geräts",
    ),
    (
        256,
        "Which apps are installed, not what is in them",
        "Welche Apps installiert sind, nicht was in ihnen steht",
    ),
    (1, "Which profiles and certificates are installed", "Welche Profile und Zertifikate installiert sind"),
    (
        64,
        "Which provisioning profiles for in-house apps are installed",
        "Welche Bereitstellungsprofile für eigene Apps installiert sind",
    ),
    (
        1024,
        "Whether there is a passcode and encryption is on",
        "Ob es einen Code gibt und die Verschlüsselung eingeschaltet ist",
    ),
    (512, "Which restrictions apply", "Welche Einschränkungen gelten"),
];

const DO: &Rights = &[
    (
        2,
        "Add and remove its settings: Wi-Fi, mail, VPN, certificates, passcode rules, restrictions",
        "Eigene Einstellungen hinzufügen und entfernen: WLAN, Mail, VPN, Zertifikate, Coderegeln, Einschränkungen",
    ),
    (4096, "Install and remove its apps", "Eigene Apps installieren und entfernen"),
    (
        128,
        "Install and remove provisioning profiles for in-house apps",
        "Bereitstellungsprofile für eigene Apps installieren und entfernen",
    ),
    (
        2048,
        "Change some settings, such as the name of the device",
        "Manche Einstellungen ändern, etwa den Namen des Geräts",
    ),
    (4, "Lock the device and remove its passcode", "Das Gerät sperren und seinen Code entfernen"),
    (8, "Erase the device with everything on it", "Das Gerät löschen, mit allem, was darauf ist"),
];

pub(super) fn see(granted: u16, language: Language) -> Vec<&'static str> {
    chosen(SEE, granted, language)
}

pub(super) fn change(granted: u16, language: Language) -> Vec<&'static str> {
    chosen(DO, granted, language)
}

fn chosen(rights: &Rights, granted: u16, language: Language) -> Vec<&'static str> {
    rights
        .iter()
        .filter(|(bit, ..)| granted & bit != 0)
        .map(|&(_, english, german)| match language {
            Language::English => english,
            Language::German => german,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_of_apple_has_its_words_once() {
        let mut bits = 0;
        for (bit, ..) in SEE.iter().chain(DO) {
            assert_eq!(bits & bit, 0, "{bit}");
            bits |= bit;
        }
        assert_eq!(bits, 8191);
    }

    #[test]
    fn only_granted_rights_are_shown() {
        assert_eq!(change(8, Language::English), ["Erase the device with everything on it"]);
        assert!(see(8, Language::German).is_empty());
    }
}
