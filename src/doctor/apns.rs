//! Whether Apple's push service is reached from here, on both of its ports, and takes our certificate.

use tokio::join;

use super::Inner;
use super::probe::{Probe, Reached, probe};
use crate::apns::certificate;
use crate::finding::{Finding, Severity};

/// The port beside 443 on which APNs answers ("Establishing a token-based connection to APNs").
const OTHER_PORT: u16 = 2197;

pub(super) async fn findings(inner: &Inner) -> Vec<Finding> {
    let apns = &inner.mdm.apns;
    let (host, port) = apns.server();
    let now = inner.mdm.store.clock().now();
    // A stand-in or a proxy has one port.
    let is_apples = host.ends_with("push.apple.com");
    let other = async {
        match is_apples && port != OTHER_PORT {
            true => Some(probe(host, OTHER_PORT, None, apns.roots(), now).await),
            false => None,
        }
    };
    let (first, other) = join!(probe(host, port, None, apns.roots(), now), other);
    let mut found = vec![of(host, port, &first, other.as_ref())];
    if matches!(&first.reached, Reached::Tls(tls) if tls.wrong.is_none()) {
        found.extend(trial(inner).await);
    }
    found
}

fn of(host: &str, port: u16, first: &Probe, other: Option<&Probe>) -> Finding {
    let subject = format!("{host}:{port}");
    let at = first.addresses.first().map(ToString::to_string).unwrap_or_default();
    let means = "No device is woken: commands and changes wait until a device comes by itself.";
    let failing = |code, seen, remedy: String| Finding {
        code,
        subject: subject.clone(),
        severity: Severity::Failing,
        seen,
        means: means.into(),
        remedy,
    };
    let open = |probe: &Probe| matches!(&probe.reached, Reached::Tls(tls) if tls.wrong.is_none());
    let way_out = match other {
        Some(other) if open(other) => {
            format!(
                "Port {OTHER_PORT} is open: write [apns] server = \"https://{host}:{OTHER_PORT}\", or open TCP {port} to {host}."
            )
        }
        Some(_) => format!(
            "Open TCP {port} or {OTHER_PORT} from this server to {host} (17.0.0.0/8) in the firewall."
        ),
        None => format!("Open TCP {port} from this server to {host}."),
    };
    match &first.reached {
        Reached::Tls(tls) => match &tls.wrong {
            None => Finding::ok(
                "apns",
                subject,
                format!(
                    "Apple's push service answers at {at}{}.",
                    if other.is_some_and(|other| !open(other)) { ", on this port only" } else { "" }
                ),
            ),
            Some(wrong) => failing(
                "apns-intercepted",
                format!(
                    "Somebody else answers in Apple's place: the certificate was issued by {} ({wrong}).",
                    tls.issuer()
                ),
                format!(
                    "Exclude {host} from the inspection of TLS in the firewall or proxy; Apple's services cannot be inspected."
                ),
            ),
        },
        Reached::NoTls(words) => failing(
            "apns-intercepted",
            format!("{at} is open, and what answers there is not Apple's push service: {words}."),
            format!("Exclude {host} from the proxy or firewall that answers in its place."),
        ),
        Reached::NoName(words) => failing(
            "apns-name",
            format!("The name {host} cannot be resolved: {words}."),
            "See to the name servers of this machine; without an internet there are no pushes.".into(),
        ),
        Reached::Refused => failing("apns-blocked", format!("{at} refuses connections."), way_out),
        Reached::Silent => failing(
            "apns-blocked",
            format!("{at} does not answer: something on the way drops the packets."),
            way_out,
        ),
        Reached::NoRoute => failing(
            "apns-route",
            format!("There is no route from this machine to {host}."),
            "Connect this machine to a network that leads to the internet.".into(),
        ),
    }
}

/// What Apple says to a push with the certificate that new devices enroll with.
async fn trial(inner: &Inner) -> Option<Finding> {
    let newest = inner.mdm.store.peek(certificate::newest).ok().flatten()?;
    let trial = inner.mdm.apns.try_topic(&newest.topic).await;
    if trial.works {
        return Some(Finding::ok("apns-certificate", newest.topic, trial.words));
    }
    Some(Finding {
        code: "apns-certificate",
        subject: newest.topic,
        severity: Severity::Failing,
        seen: format!("Apple's push service is reached and takes no push with this certificate. {}", trial.words),
        means: "No device of this topic is woken.".into(),
        remedy: "If it was renewed lately, go back to the pair before: russet push-certificate rollback; else renew it now.".into(),
    })
}
