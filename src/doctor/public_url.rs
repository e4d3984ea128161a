//! Whether devices reach this server under the name that they know, and whom they find there.

use std::net::IpAddr;

use super::Inner;
use super::probe::{Probe, Reached, Tls, probe};
use crate::finding::{Finding, Severity};
use crate::pki::tls_judge::judge;

pub(super) async fn findings(inner: &Inner) -> Vec<Finding> {
    let url = &inner.public_url;
    if url.is_localhost() {
        return vec![Finding {
            code: "public-url-localhost",
            subject: url.to_string(),
            severity: Severity::Info,
            seen: "public_url is this machine's own name.".into(),
            means: "No other device can enroll; it is good for a try.".into(),
            remedy: "Write the name that devices reach this server by: [server] public_url.".into(),
        }];
    }
    let mut roots = inner.roots.clone();
    let presented = inner.chain.now();
    if inner.self_signed
        && let Some(root) = presented.last()
    {
        // Devices got it with their profile.
        let _ = roots.add(root.clone());
    }
    let now = inner.mdm.store.clock().now();
    let seen = probe(&url.host, url.port, inner.settings.public_address, &roots, now).await;
    match &seen.reached {
        Reached::Tls(tls) => vec![answered(inner, &seen, tls)],
        other => vec![not_reached(inner, &seen, other)],
    }
}

fn answered(inner: &Inner, seen: &Probe, tls: &Tls) -> Finding {
    let url = &inner.public_url;
    let at = seen.addresses.first().map(ToString::to_string).unwrap_or_default();
    let now = inner.mdm.store.clock().now();
    let is_ours = tls.chain.first() == inner.chain.now().first();
    // An authority of one's own has more time than those that every system knows.
    let is_public = !inner.self_signed && inner.settings.trust.is_none();
    let problems = judge(&tls.chain, &url.host, now, is_public);
    if !problems.is_empty() {
        let words: Vec<_> = problems.iter().map(|problem| problem.words.as_str()).collect();
        return Finding {
            code: "public-url-certificate",
            subject: url.to_string(),
            severity: Severity::Failing,
            seen: format!(
                "At {at} a certificate is shown that Apple's devices do not take. {}",
                words.join(" ")
            ),
            means: "Devices break the connection off, and people see a warning.".into(),
            remedy: if is_ours {
                "Get another certificate, or let Russet: docs/tls.md tells the three ways.".into()
            } else {
                "It is not this server's: see what else answers there, a router or a proxy, and mend it there.".into()
            },
        };
    }
    if let Some(wrong) = &tls.wrong {
        return Finding {
            code: "public-url-chain",
            subject: url.to_string(),
            severity: Severity::Failing,
            seen: format!("The certificate at {at} does not lead to a root that is known here: {wrong}."),
            means: "Devices that have only their system's roots do not connect.".into(),
            remedy: "Put the whole chain into the certificate file, the server's own first, then each issuer; or name your own \
                     authority as [doctor] trust if all devices trust it."
                .into(),
        };
    }
    if !is_ours {
        return Finding {
            code: "public-url-other",
            subject: url.to_string(),
            severity: Severity::Warning,
            seen: format!("At {at} another certificate is shown than this server's."),
            means: "Something in between ends TLS, so devices cannot prove themselves by their certificate alone.".into(),
            remedy: "Let it pass TLS through; or, if it is your proxy, set [proxy] so that it hands the client certificate on.".into(),
        };
    }
    let by = if inner.settings.public_address.is_some() {
        "[doctor] public_address"
    } else {
        "the name servers of this machine"
    };
    Finding::ok(
        "public-url",
        url.to_string(),
        format!(
            "It leads to {at} (says {by}), and this server answers there with {} and {}.",
            tls.version, tls.cipher
        ),
    )
}

fn not_reached(inner: &Inner, seen: &Probe, reached: &Reached) -> Finding {
    let url = &inner.public_url;
    let at = seen.addresses.first().map(ToString::to_string).unwrap_or_default();
    let is_private = seen.addresses.first().is_some_and(|address| is_private(address.ip()));
    // From inside, the way to one's own public address is closed in many routers.
    let perhaps_only_here = !is_private && matches!(reached, Reached::Silent | Reached::Refused);
    let (code, saw, remedy) = match reached {
        Reached::NoName(words) => (
            "public-url-name",
            format!("The name {} cannot be resolved: {words}.", url.host),
            "Enter the name in the DNS, with the address of this server or of the router in front of it.",
        ),
        Reached::Refused => (
            "public-url-port",
            format!("{at} refuses connections."),
            "Lead that port to this server: in the router, in the firewall, and see that [server] listen has it.",
        ),
        Reached::Silent => (
            "public-url-port",
            format!("{at} does not answer."),
            "Open that port on the way to this server: in the router, in the firewall; then look again.",
        ),
        Reached::NoTls(words) => (
            "public-url-tls",
            format!("{at} is open, and what answers there does not speak TLS: {words}."),
            "See what else answers there, and lead the port to this server.",
        ),
        Reached::NoRoute | Reached::Tls(_) => (
            "public-url-route",
            format!(
                "There is no route from this machine to {}.",
                if at.is_empty() { url.host.as_str() } else { &at }
            ),
            "See to this machine's network, or name an address that it reaches: [doctor] public_address.",
        ),
    };
    let remedy = if perhaps_only_here {
        format!(
            "{remedy} If devices do connect, it is only the router, which does not lead its own network back to itself."
        )
    } else {
        remedy.to_owned()
    };
    Finding {
        code,
        subject: url.to_string(),
        severity: if perhaps_only_here { Severity::Warning } else { Severity::Failing },
        seen: saw,
        means: "Devices cannot reach this server by the name that they know.".into(),
        remedy,
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}
