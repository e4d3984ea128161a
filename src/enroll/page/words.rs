//! The sentences of the page, in each language.
//!
//! They are markup of ours: `&`, `<b>` and `<code>` stand for themselves, and `{organization}`,
//! `{install}`, `{trust}` are put in by [`super::text`], escaped. Names of settings are those that
//! Apple's systems show in that language.

use super::visitor::Language;

pub(super) struct Words {
    pub(super) lang: &'static str,
    pub(super) title: &'static str,
    pub(super) intro: &'static str,
    /// While public_url is localhost.
    pub(super) only_here: &'static str,
    pub(super) install: &'static str,
    pub(super) handheld: &'static str,
    pub(super) mac: &'static str,
    pub(super) others: &'static str,
    pub(super) pad_hint: &'static str,
    pub(super) elsewhere: &'static str,
    pub(super) trust_first: &'static [&'static str],
    pub(super) trust: &'static str,
    pub(super) private_root: &'static str,
    pub(super) handheld_steps: &'static [&'static str],
    pub(super) mac_steps: &'static [&'static str],
    pub(super) others_words: &'static [&'static str],
    pub(super) show_code: &'static str,
    pub(super) code: &'static str,
    pub(super) see: &'static str,
    pub(super) change: &'static str,
    pub(super) nothing: &'static str,
    pub(super) hidden: &'static str,
    pub(super) hidden_things: &'static [&'static str],
    pub(super) hidden_note: &'static str,
    pub(super) remove: &'static str,
    pub(super) remove_words: &'static [&'static str],
    pub(super) remove_trust: &'static str,
    pub(super) contact: &'static str,
    pub(super) contact_nobody: &'static str,
    pub(super) serial_number: &'static str,
    pub(super) valid: &'static str,
    pub(super) for_administrator: &'static str,
}

pub(super) fn words(language: Language) -> &'static Words {
    match language {
        Language::English => &ENGLISH,
        Language::German => &GERMAN,
    }
}

const ENGLISH: Words = Words {
    lang: "en",
    title: "Management by {organization}",
    intro: "{organization} asks to manage this device. Nothing happens before you install a profile and agree to it in \
            Settings. Below you find what {organization} will be able to see and to do.",
    only_here: "Only this machine can use this link, because the server is still called localhost. To enroll other \
                devices, set <code>public_url</code> under <code>[server]</code> in <code>russet.toml</code> to the \
                name by which devices reach the server, and restart it.",
    install: "Install",
    handheld: "On an iPhone or iPad",
    mac: "On a Mac",
    others: "On an Apple TV, Apple Watch or Apple Vision Pro",
    pad_hint: "Is this an iPad? Its steps are below, under “On an iPhone or iPad”.",
    elsewhere: "Open this page on the device that is to be managed: scan the code with its camera.",
    trust_first: &[
        "Open this page in Safari and download the certificate of this server: {trust} \
         Then install it in <b>Settings › General › VPN &amp; Device Management</b>.",
        "In <b>Settings › General › About › Certificate Trust Settings</b>, turn on trust for the certificate whose \
         name ends in “TLS Root for {host}”.",
    ],
    trust: "Download certificate",
    private_root: "iOS and iPadOS 27 may refuse a private root certificate even so. Then only a public certificate \
                   helps, the safe way: your administrator sets it with <code>mode = \"files\"</code> under \
                   <code>[tls]</code>.",
    handheld_steps: &[
        "In Safari, tap here and allow the download: {install}",
        "Open <b>Settings › General › VPN &amp; Device Management</b>, tap “Management by {organization}”, then \
         <b>Install</b>, and enter your passcode.",
    ],
    mac_steps: &[
        "Download the profile: {install}",
        "Double-click the file in your Downloads folder.",
        "Open <b>System Settings › General › Device Management</b>, double-click “Management by {organization}”, then \
         click <b>Install</b> and enter the password of an administrator of this Mac.",
    ],
    others_words: &[
        "An Apple TV is enrolled by your administrator, with Apple Configurator on a Mac and this link.",
        "An Apple Watch is enrolled through the iPhone it is paired with, an Apple Vision Pro in Safari like an iPhone.",
    ],
    show_code: "On another device",
    code: "To open this page on another device, scan this code with its camera.",
    see: "What {organization} will see",
    change: "What {organization} will be able to do",
    nothing: "Nothing of this kind.",
    hidden: "What it cannot see",
    hidden_things: &[
        "Your photos and files",
        "Your messages and mails",
        "Your contacts, calendars and notes",
        "Your passwords",
        "Your browsing history",
        "Where you are; only a supervised device that was reported lost can be found (Lost Mode), and it says so on its screen",
    ],
    hidden_note: "Apps, a VPN or a filter that {organization} installs may see more than management does. What was \
                  installed is listed where you find the profile.",
    remove: "How to end it",
    remove_words: &[
        "iPhone, iPad: <b>Settings › General › VPN &amp; Device Management</b>, tap “Management by {organization}”, \
         then <b>Remove Management</b>.",
        "Mac: <b>System Settings › General › Device Management</b>, select the profile, then click the minus sign.",
        "Settings, accounts and apps that came from {organization} go with it. What is yours stays.",
    ],
    remove_trust: "Remove the profile “Trust the server of {organization}” in the same place.",
    contact: "Questions? {organization} answers:",
    contact_nobody: "Questions? Ask whoever gave you this link.",
    serial_number: "This link is for the device with the serial number {serial} alone.",
    valid: "This link works until {until} (UTC).",
    for_administrator: "For your administrator:",
};

const GERMAN: Words = Words {
    lang: "de",
    title: "Verwaltung durch {organization}",
    intro: "{organization} möchte dieses Gerät verwalten. Nichts geschieht, bevor du ein Profil installierst und ihm in \
            den Einstellungen zustimmst. Unten steht, was {organization} dann sehen und tun kann.",
    only_here: "Nur dieser Rechner selbst kann diesen Link benutzen, denn der Server heißt noch localhost. Um andere \
                Geräte anzumelden, setze <code>public_url</code> unter <code>[server]</code> in \
                <code>russet.toml</code> auf den Namen, unter dem Geräte den Server erreichen, und starte ihn neu.",
    install: "Installieren",
    handheld: "Auf einem iPhone oder iPad",
    mac: "Auf einem Mac",
    others: "Auf Apple TV, Apple Watch oder Apple Vision Pro",
    pad_hint: "Ist das ein iPad? Seine Schritte stehen unten, unter „Auf einem iPhone oder iPad“.",
    elsewhere: "Öffne diese Seite auf dem Gerät, das verwaltet werden soll: Scanne den Code mit seiner Kamera.",
    trust_first: &[
        "Öffne diese Seite in Safari und lade das Zertifikat dieses Servers: {trust} \
         Installiere es dann in <b>Einstellungen › Allgemein › VPN und Geräteverwaltung</b>.",
        "Schalte in <b>Einstellungen › Allgemein › Info › Zertifikatsvertrauenseinstellungen</b> das Vertrauen für das \
         Zertifikat ein, dessen Name auf „TLS Root for {host}“ endet.",
    ],
    trust: "Zertifikat laden",
    private_root: "iOS und iPadOS 27 lehnen ein privates Stammzertifikat womöglich trotzdem ab. Dann hilft nur ein \
                   öffentliches Zertifikat, der sichere Weg: Deine Administration richtet es mit \
                   <code>mode = \"files\"</code> unter <code>[tls]</code> ein.",
    handheld_steps: &[
        "Tippe hier in Safari und erlaube das Laden: {install}",
        "Öffne <b>Einstellungen › Allgemein › VPN und Geräteverwaltung</b>, tippe auf „Management by \
         {organization}“, dann auf <b>Installieren</b>, und gib deinen Code ein.",
    ],
    mac_steps: &[
        "Lade das Profil: {install}",
        "Doppelklicke auf die Datei in deinem Ordner „Downloads“.",
        "Öffne <b>Systemeinstellungen › Allgemein › Geräteverwaltung</b>, doppelklicke auf „Management by \
         {organization}“, klicke auf <b>Installieren</b> und gib das Passwort einer Administratorin oder eines \
         Administrators dieses Mac ein.",
    ],
    others_words: &[
        "Ein Apple TV meldet deine Administration an, mit Apple Configurator auf einem Mac und diesem Link.",
        "Eine Apple Watch wird über das gekoppelte iPhone angemeldet, eine Apple Vision Pro in Safari wie ein iPhone.",
    ],
    show_code: "Auf einem anderen Gerät",
    code: "Um diese Seite auf einem anderen Gerät zu öffnen, scanne diesen Code mit dessen Kamera.",
    see: "Was {organization} sehen wird",
    change: "Was {organization} tun kann",
    nothing: "Nichts dergleichen.",
    hidden: "Was nicht zu sehen ist",
    hidden_things: &[
        "Deine Fotos und Dateien",
        "Deine Nachrichten und Mails",
        "Deine Kontakte, Kalender und Notizen",
        "Deine Passwörter",
        "Dein Browserverlauf",
        "Wo du bist; nur ein betreutes Gerät, das als verloren gemeldet ist, lässt sich orten (Modus „Verloren“), und es zeigt das an",
    ],
    hidden_note: "Apps, ein VPN oder ein Filter, die {organization} installiert, sehen womöglich mehr als die \
                  Verwaltung. Was installiert wurde, steht dort, wo du das Profil findest.",
    remove: "Wie du sie beendest",
    remove_words: &[
        "iPhone, iPad: <b>Einstellungen › Allgemein › VPN und Geräteverwaltung</b>, tippe auf „Management by \
         {organization}“, dann auf <b>Verwaltung entfernen</b>.",
        "Mac: <b>Systemeinstellungen › Allgemein › Geräteverwaltung</b>, wähle das Profil und klicke auf das Minuszeichen.",
        "Einstellungen, Accounts und Apps, die von {organization} kamen, gehen mit. Was dir gehört, bleibt.",
    ],
    remove_trust: "Entferne am selben Ort das Profil „Trust the server of {organization}“.",
    contact: "Fragen? {organization} antwortet:",
    contact_nobody: "Fragen? Wende dich an die Person, die dir diesen Link gegeben hat.",
    serial_number: "Dieser Link ist allein für das Gerät mit der Seriennummer {serial}.",
    valid: "Dieser Link gilt bis {until} (UTC).",
    for_administrator: "Für deine Administration:",
};
