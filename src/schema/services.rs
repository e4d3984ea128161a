//! The services of macOS that take managed configuration files, and which files each of them reads.
//!
//! Called where people write such files, and shown to them. Apple: "ServicesConfigurationFiles" (the table
//! of service types and what each manages), and the service's own manual page for what it reads there.
//!
//! **Invariant:** paths are those of Apple's page, from the root of the file system and without the first
//! slash, as they stand in the archive.

/// A service that Apple builds in.
#[derive(Debug)]
pub struct Service {
    /// ServiceType.
    pub service_type: &'static str,
    pub name: &'static str,
    /// What it is and what to know before changing it, in sentences.
    pub words: &'static str,
    /// Files, or with a slash at their end folders, that it reads.
    pub reads: &'static [&'static str],
    /// The file without which it reads none of the others, or has nothing to go by.
    pub main: Option<&'static str>,
}

/// The prefix of service types that is Apple's own.
pub const RESERVED: &str = "com.apple.";

/// All that Apple names.
pub const SERVICES: [Service; 9] = [
    Service {
        service_type: "com.apple.sshd",
        name: "sshd",
        words: "Remote Login. sshd reads etc/ssh/sshd_config and what that includes; put all settings into \
                etc/ssh/sshd_config. Whether Remote Login is on is decided elsewhere.",
        reads: &[
            "etc/ssh/sshd_config",
            "etc/ssh/sshd_config.d/",
            "etc/ssh/ssh_config",
            "etc/ssh/ssh_config.d/",
            "etc/ssh/moduli",
        ],
        main: Some("etc/ssh/sshd_config"),
    },
    Service {
        service_type: "com.apple.sudo",
        name: "sudo",
        words: "Who may do what as root. etc/sudoers replaces that of the Mac: without a line such as \
                %admin ALL = (ALL) ALL nobody can use sudo.",
        reads: &["etc/sudoers", "etc/sudoers.d/"],
        main: Some("etc/sudoers"),
    },
    Service {
        service_type: "com.apple.pam",
        name: "PAM",
        words: "How programs find out who somebody is: one file in etc/pam.d for each, as sudo, login or \
                screensaver. A mistake in these keeps people out of their Mac.",
        reads: &["etc/pam.d/"],
        main: None,
    },
    Service {
        service_type: "com.apple.cups",
        name: "CUPS",
        words: "Printing: etc/cups/cupsd.conf and its neighbours.",
        reads: &["etc/cups/"],
        main: Some("etc/cups/cupsd.conf"),
    },
    Service {
        service_type: "com.apple.apache.httpd",
        name: "Apache httpd",
        words: "The web server that comes with macOS: etc/apache2/httpd.conf and what it includes.",
        reads: &["etc/apache2/"],
        main: Some("etc/apache2/httpd.conf"),
    },
    Service {
        service_type: "com.apple.bash",
        name: "bash",
        words: "What login shells of bash run first: etc/profile.",
        reads: &["etc/profile"],
        main: Some("etc/profile"),
    },
    Service {
        service_type: "com.apple.zsh",
        name: "zsh",
        words: "What shells of zsh run first: etc/zshenv always, etc/zprofile and etc/zlogin at login, \
                etc/zshrc in a terminal, etc/zlogout at the end.",
        reads: &["etc/zshenv", "etc/zprofile", "etc/zshrc", "etc/zlogin", "etc/zlogout"],
        main: None,
    },
    Service {
        service_type: "com.apple.cryptoTokenKit",
        name: "Smart cards",
        words: "How smart cards are matched to accounts: etc/SmartcardLogin.plist, a property list.",
        reads: &["etc/SmartcardLogin.plist"],
        main: Some("etc/SmartcardLogin.plist"),
    },
    Service {
        service_type: "com.apple.authorization",
        name: "Authorization",
        words: "Who may do what in macOS itself: property lists in Library/Security.",
        reads: &["Library/Security/"],
        main: None,
    },
];

/// The service of this type, if Apple builds it in.
pub fn service(service_type: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|service| service.service_type == service_type)
}

impl Service {
    /// Whether it reads a file at this path.
    pub fn takes(&self, path: &str) -> bool {
        self.reads.iter().any(|one| if one.ends_with('/') { path.starts_with(one) } else { path == *one })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_reads_its_main_file_and_says_so() {
        for one in &SERVICES {
            assert!(one.service_type.starts_with(RESERVED) && one.words.ends_with('.'), "{one:?}");
            assert!(one.main.is_none_or(|main| one.takes(main)), "{one:?}");
            assert!(!one.takes("etc/passwd") && !one.takes(""), "{one:?}");
        }
        let sshd = service("com.apple.sshd").unwrap();
        assert!(sshd.takes("etc/ssh/sshd_config.d/100-school.conf") && !sshd.takes("etc/ssh/sshd_config.d"));
        assert!(service("com.openssh.sshd").is_none());
    }
}
