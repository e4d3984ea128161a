//! The pages as HTML: the landing page and a page for each refusal.
//!
//! Markup without script and without inline style, so that the policy of [`super::POLICY`] holds; the
//! QR code is markup too.
//!
//! **Invariant:** what comes from configuration, database or device goes through [`escape`].

use qrcode::{Color, QrCode};

use super::rights;
use super::visitor::{Device, Language, Visitor};
use super::words::{Words, words};
use crate::clock;
use crate::enroll::Settings;
use crate::enroll::invitation::Invitation;
use crate::id;

/// The page behind a link that can be used.
pub(super) fn landing(
    settings: &Settings,
    invitation: &Invitation,
    self_signed: bool,
    visitor: &Visitor,
) -> String {
    let words = words(visitor.language);
    let link = format!("{}/enroll/{}", settings.public_url, invitation.code);
    let page = Page {
        words,
        organization: escape(&settings.organization),
        host: escape(host(&settings.public_url)),
        install: button(&format!("/enroll/{}/profile", invitation.code), words.install),
        trust: button("/trust.mobileconfig", words.trust),
        self_signed,
    };
    let local = if settings.public_url_is_localhost {
        format!("<p class=\"notice\" role=\"note\">{}</p>", words.only_here)
    } else {
        String::new()
    };
    let body = [
        format!("<header><h1>{}</h1><p>{}</p></header>", page.fill(words.title), page.fill(words.intro)),
        local,
        page.steps(visitor.device, &qr(&link, words)),
        page.rights(settings.access_rights, visitor.language),
        page.removal(),
        page.footer(settings, invitation),
    ];
    document(words, &page.fill(words.title), &body.concat())
}

/// The page that says no.
pub(super) fn refusal(
    language: Language,
    title: &str,
    sentence: &str,
    for_administrator: Option<&str>,
) -> String {
    let words = words(language);
    let more = for_administrator.map_or(String::new(), |more| {
        let label = words.for_administrator;
        format!("<p class=\"notice\"><b>{label}</b> <span lang=\"en\">{}</span></p>", escape(more))
    });
    let body = format!("<header><h1>{}</h1><p>{}</p></header>{more}", escape(title), escape(sentence));
    document(words, &escape(title), &body)
}

/// Text as it may stand in an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// What the sentences are filled with; all of it is markup already.
struct Page {
    words: &'static Words,
    organization: String,
    host: String,
    install: String,
    trust: String,
    self_signed: bool,
}

impl Page {
    /// Puts the names into a sentence, in one pass: a name that looks like a placeholder stays a name.
    fn fill(&self, sentence: &str) -> String {
        let mut filled = String::with_capacity(sentence.len() + 64);
        let mut rest = sentence;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            filled.push_str(match name {
                "organization" => &self.organization,
                "host" => &self.host,
                "install" => &self.install,
                "trust" => &self.trust,
                _ => "",
            });
            rest = after;
        }
        filled.push_str(rest);
        filled
    }

    fn steps(&self, device: Device, qr: &str) -> String {
        let words = self.words;
        let others = self.list("ul", words.others_words);
        let folded =
            |title: &str, content: &str| format!("<details><summary>{title}</summary>{content}</details>");
        let open = |title: &str, content: &str| {
            format!("<section class=\"card\"><h2>{title}</h2>{content}</section>")
        };
        let (handheld, mac) = (self.handheld(), self.list("ol", words.mac_steps));
        let show = folded(words.show_code, &format!("<p>{}</p>{qr}", words.code));
        match device {
            Device::Handheld => [
                open(words.handheld, &handheld),
                folded(words.mac, &mac),
                folded(words.others, &others),
                show,
            ]
            .concat(),
            Device::MacOrPad => [
                open(words.mac, &format!("{mac}<p class=\"small\">{}</p>", words.pad_hint)),
                folded(words.handheld, &handheld),
                folded(words.others, &others),
                show,
            ]
            .concat(),
            Device::Other => [
                format!(
                    "<section class=\"card center\"><p>{}</p>{qr}{}</section>",
                    words.elsewhere, self.install
                ),
                folded(words.handheld, &handheld),
                folded(words.mac, &mac),
                folded(words.others, &others),
            ]
            .concat(),
        }
    }

    /// With a private root, trust comes first: iPhone and iPad do not trust a root for TLS because a
    /// profile brings it, and the enrollment itself needs TLS.
    fn handheld(&self) -> String {
        let words = self.words;
        if !self.self_signed {
            return self.list("ol", words.handheld_steps);
        }
        let all: Vec<&str> = words.trust_first.iter().chain(words.handheld_steps).copied().collect();
        format!("{}<p class=\"small\">{}</p>", self.list("ol", &all), self.fill(words.private_root))
    }

    fn rights(&self, granted: u16, language: Language) -> String {
        let words = self.words;
        let section = |title: &str, class: &str, items: &[&str], note: &str| {
            let title = self.fill(title);
            let list =
                if items.is_empty() { format!("<p>{}</p>", words.nothing) } else { self.list("ul", items) };
            format!("<section class=\"{class}\"><h2>{title}</h2>{list}{note}</section>")
        };
        let note = format!("<p class=\"small\">{}</p>", self.fill(words.hidden_note));
        [
            section(words.see, "see", &rights::see(granted, language), ""),
            section(words.change, "can", &rights::change(granted, language), ""),
            section(words.hidden, "cannot", words.hidden_things, &note),
        ]
        .concat()
    }

    fn removal(&self) -> String {
        let mut items = self.words.remove_words.to_vec();
        if self.self_signed {
            items.push(self.words.remove_trust);
        }
        format!("<section><h2>{}</h2>{}</section>", self.words.remove, self.list("ul", &items))
    }

    fn footer(&self, settings: &Settings, invitation: &Invitation) -> String {
        let words = self.words;
        let mut lines = Vec::new();
        let ways: Vec<String> = [("mailto", &settings.email), ("tel", &settings.phone)]
            .into_iter()
            .filter_map(|(scheme, address)| address.as_deref().map(|address| contact(scheme, address)))
            .collect();
        let nobody = ways.is_empty();
        let asked = format!("{} {}", self.fill(words.contact), ways.join(", "));
        lines.push(if nobody { words.contact_nobody.to_owned() } else { asked });
        if let Some(serial_number) = &invitation.serial_number {
            lines.push(words.serial_number.replace("{serial}", &escape(&id::printable(serial_number))));
        }
        // Days and minutes are what a person reads of an RFC 3339 time.
        let until = clock::rfc3339(invitation.expires_at);
        let until = until.get(..16).unwrap_or(&until).replace('T', " ");
        lines.push(words.valid.replace("{until}", &until));
        format!("<footer><p>{}</p></footer>", lines.join("</p><p>"))
    }

    fn list(&self, kind: &str, items: &[&str]) -> String {
        let items: String = items.iter().map(|item| format!("<li>{}</li>", self.fill(item))).collect();
        format!("<{kind}>{items}</{kind}>")
    }
}

fn document(words: &Words, title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\">\
         <title>{title}</title><link rel=\"stylesheet\" href=\"/enroll/style.css\"></head>\
         <body><main>{body}</main></body></html>\n",
        words.lang
    )
}

fn button(path: &str, label: &str) -> String {
    format!("<a class=\"button\" href=\"{}\">{label}</a>", escape(path))
}

fn contact(scheme: &str, address: &str) -> String {
    let escaped = escape(address);
    format!("<a href=\"{scheme}:{}\">{escaped}</a>", escaped.replace(' ', ""))
}

/// The host of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// The link as a QR code: dark squares on a light ground in both colour schemes, since scanners
/// expect that, with the four squares of margin that ISO 18004 asks for.
fn qr(link: &str, words: &Words) -> String {
    // Only a link of more than 2,000 characters does not fit; then the page is useful without it.
    let Ok(code) = QrCode::new(link) else { return String::new() };
    let (width, margin) = (code.width(), 4);
    let mut path = String::new();
    for (place, color) in code.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            let (x, y) = (place % width + margin, place / width + margin);
            path.push_str(&format!("M{x} {y}h1v1h-1z"));
        }
    }
    let side = width + 2 * margin;
    let label = words.code;
    format!(
        "<svg class=\"qr\" viewBox=\"0 0 {side} {side}\" role=\"img\" aria-label=\"{label}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/>\
         <path fill=\"#000\" d=\"{path}\"/></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_become_markup() {
        assert_eq!(
            escape("<script>alert(\"a\" + 'b')</script> & co"),
            "&lt;script&gt;alert(&quot;a&quot; + &#39;b&#39;)&lt;/script&gt; &amp; co"
        );
        assert_eq!(escape("Schule Zürich 🏫"), "Schule Zürich 🏫");
    }

    #[test]
    fn a_name_that_looks_like_a_placeholder_stays_a_name() {
        let page = Page {
            words: words(Language::English),
            organization: escape("{install} {"),
            host: String::new(),
            install: "<a>".into(),
            trust: String::new(),
            self_signed: false,
        };
        assert_eq!(page.fill("By {organization}: {install}."), "By {install} {: <a>.");
    }

    #[test]
    fn the_host_is_what_the_root_is_named_after() {
        assert_eq!(host("https://mdm.example.org"), "mdm.example.org");
        assert_eq!(host("https://localhost:8443"), "localhost");
        assert_eq!(host("https://[2001:db8::1]"), "[2001:db8::1]");
    }
}
