//! It is not registered, or cannot be reached: why.

use roost_core::{ContactRecord, Gone, Reason};

use crate::note::{Note, What};
use crate::say;
use crate::shell::argument;
use crate::telling::{source_of, times, why_of};
use crate::verdict::facts::{
    Facts, Make, Verdict, at_of, heard_ms, is_occupied, last_refused, notes, of_registration,
};
use crate::verdict::fight::fight;
use crate::verdict::gaps::{Told, told};
use crate::verdict::refusal::{cause, refused, remedy_of, unknown};
use crate::words::{ago, clock, list, phone, seconds};

/// Judges an extension that has no contact that can be called.
pub(super) fn offline(facts: &Facts<'_>) -> Verdict {
    let (language, aor) = (facts.language, facts.aor);
    let make = |word: &str, sentence: String, remedy: Vec<String>| Verdict {
        word: word.to_string(),
        is_online: false,
        sentence: say!(language, "{aor} is offline. {sentence}", "{aor} 离线。{sentence}"),
        remedy,
    };
    if facts.is_loading && facts.life.is_none() {
        let sentence = say!(
            language,
            "The table `location` is still being read; ask again in a moment.",
            "仍在读取 `location` 表；请稍后再问。"
        );
        return make("rows-not-read", sentence, Vec::new());
    }
    if let Some(contact) = facts.contacts.iter().find(|contact| contact.is_stranded) {
        return stranded(facts, contact, &make);
    }
    let Some(last) = of_registration(facts).next() else { return unheard(facts, &make) };
    match last.what {
        What::Refused { reason, .. } if is_occupied(reason) => {
            after_fight(facts, refused(facts, last, reason, &make))
        }
        What::Refused { reason, .. } => refused(facts, last, reason, &make),
        What::Gone(Gone::Removed) if facts.exists == Some(false) => removed_extension(facts, last, &make),
        // Its phone was here, and registers elsewhere now.
        What::Gone(_) if !facts.elsewhere.is_empty() => other_domain(facts, &make),
        What::Gone(why) => after_fight(facts, gone(facts, (last, why), &make)),
        _ => lost(facts, last, &make),
    }
}

/// The same, and that two phones used it, if they did.
fn after_fight(facts: &Facts<'_>, told: Verdict) -> Verdict {
    let Some(fight) = fight(facts, None) else { return told };
    Verdict {
        word: "two-phones".to_string(),
        sentence: say!(
            facts.language,
            "{told} Before, {before}",
            "{told}此前，{before}",
            told = told.sentence,
            before = fight.sentence
        ),
        remedy: fight.remedy.into_iter().chain(told.remedy).collect(),
        ..told
    }
}

fn stranded(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Verdict {
    let lost = notes(facts).find(|note| note.what == What::FlowLost);
    let (language, from) = (facts.language, at_of(contact));
    let when = lost.map_or(String::new(), |note| {
        let when = ago(language, note.last_ms, facts.now_ms);
        say!(language, " {when}", "于 {when}")
    });
    let sentence = say!(
        language,
        "Its registration from {from} stands, but the connection that it was made over ended{when}, and only the phone can make it again.",
        "来自 {from} 的注册仍在，但注册所用的连接已{when}中断，只有话机能重新建立。"
    );
    let remedy =
        say!(language, "wait for the phone to register again, or restart it", "等话机重新注册，或重启话机");
    make("flow-lost", sentence, vec![remedy])
}

/// It is no extension any more.
fn removed_extension(facts: &Facts<'_>, last: &Note, make: Make<'_>) -> Verdict {
    let when = ago(facts.language, last.last_ms, facts.now_ms);
    let sentence = say!(
        facts.language,
        "There is no such extension any more; its registration was removed {when}.",
        "已没有这个分机；它的注册 {when}被删除。"
    );
    make("unknown-user", sentence, vec![format!("roost user add {} …", argument(facts.aor))])
}

/// Its registration has ended.
fn gone(facts: &Facts<'_>, (last, why): (&Note, Gone), make: Make<'_>) -> Verdict {
    let language = facts.language;
    let (when, from) = (ago(language, last.last_ms, facts.now_ms), source_of(language, last));
    match why {
        Gone::Expired => expired(facts, last, make),
        Gone::Unregistered => make(
            "unregistered",
            say!(language, "Its phone at {from} has unregistered {when}.", "{from} 的话机 {when}注销了。"),
            vec![say!(language, "switch the account on in the phone", "在话机上启用该账号")],
        ),
        Gone::Replaced => make(
            "replaced",
            say!(
                language,
                "Its registration from {from} gave way to another one {when}, which is gone too.",
                "来自 {from} 的注册 {when}被另一个取代，而那一个也已不在。"
            ),
            vec![say!(
                language,
                "look whether the phone has power and network",
                "检查话机是否有电、网络是否正常"
            )],
        ),
        Gone::PingsLost => {
            let lost = notes(facts).find_map(|note| match note.what {
                What::PingsLost(count) => Some(count.to_string()),
                _ => None,
            });
            let count = lost.unwrap_or_default();
            make(
                "pings-lost",
                say!(
                    language,
                    "Its phone at {from} did not answer {count} pings, and its registration was removed {when} \
                     (`nathelper.remove_on_timeout`).",
                    "{from} 的话机 {count} 次 ping 未应答，其注册 {when}被移除（`nathelper.remove_on_timeout`）。"
                ),
                vec![look_at_network(facts)],
            )
        }
        Gone::Removed => make(
            "removed",
            say!(
                language,
                "Its registration from {from} was removed {when} by an operator or a program.",
                "来自 {from} 的注册 {when}被操作人员或程序移除。"
            ),
            vec![say!(
                language,
                "restart the phone, or wait until it registers again",
                "重启话机，或等它重新注册"
            )],
        ),
    }
}

fn look_at_network(facts: &Facts<'_>) -> String {
    say!(facts.language, "look at the phone's network and its router", "检查话机的网络和路由器")
}

/// Its time was over: because nothing came, or because what came was refused.
fn expired(facts: &Facts<'_>, last: &Note, make: Make<'_>) -> Verdict {
    let language = facts.language;
    let (when, place) = (ago(language, last.last_ms, facts.now_ms), source_of(language, last));
    let heard = heard_ms(facts, last.source.map(|source| source.ip())).map_or(String::new(), |heard_ms| {
        let heard = ago(language, heard_ms, facts.now_ms);
        say!(language, "; it was heard of last {heard}", "；最后一次收到它的消息是 {heard}")
    });
    if let Some(refusal) = last_refused(facts) {
        let (at, from) = (clock(refusal.last_ms, facts.now_ms), source_of(language, refusal));
        let is_own = refusal.source.is_none_or(|own| last.source.is_none_or(|other| own.ip() == other.ip()));
        let (word, why, remedy) = cause(facts, refusal);
        let sentence = match is_own {
            true => say!(
                language,
                "Its registration ended {when}, because its refresh at {at} was refused: {why}{heard}.",
                "它的注册 {when}过期，因为 {at} 的刷新被拒绝：{why}{heard}。"
            ),
            false => say!(
                language,
                "Its registration from {place} ended {when}{heard}; a REGISTER from {from}{who} at {at} was refused: {why}.",
                "来自 {place} 的注册 {when}过期{heard}；{at} 来自 {from}{who} 的 REGISTER 被拒绝：{why}。",
                who = phone(language, &refusal.text)
            ),
        };
        return make(&word, sentence, remedy);
    }
    if let Some(Told { word, text, remedy }) = told(facts) {
        let sentence = say!(
            language,
            "Its registration ended {when}{heard}; {text}.",
            "它的注册 {when}过期{heard}；{text}。"
        );
        return make(&word, sentence, remedy);
    }
    let registered = notes(facts).find(|note| matches!(note.what, What::Registered));
    let who = registered.map_or(String::new(), |note| phone(language, &note.text));
    make(
        "expired",
        say!(
            language,
            "Its registration ended {when}: the phone at {place}{who} did not refresh it{heard}.",
            "它的注册 {when}过期：{place}{who}的话机没有刷新{heard}。"
        ),
        vec![say!(
            language,
            "look whether the phone has power and network, and whether its packets reach this server",
            "检查话机是否有电、网络是否正常，以及它的报文能否到达本服务器"
        )],
    )
}

/// It was registered, or banned, or asked for its password; nothing has followed.
fn lost(facts: &Facts<'_>, last: &Note, make: Make<'_>) -> Verdict {
    let (language, own) = (facts.language, argument(facts.aor));
    let when = ago(language, last.last_ms, facts.now_ms);
    match last.what {
        What::Banned { seconds: left } => make(
            "banned-user",
            say!(
                language,
                "It was banned {when} for {left}: too many wrong passwords.",
                "它 {when}被封禁 {left}：密码错误次数过多。",
                left = seconds(language, left)
            ),
            match facts.exists {
                Some(false) => unknown(facts),
                _ => vec![format!("roost user passwd {own} …"), format!("roost ban rm {own}")],
            },
        ),
        What::Challenged { reason, .. } => challenged(facts, last, reason, make),
        What::FlowLost => make(
            "flow-lost",
            say!(language, "The connection of its phone ended {when}.", "其话机的连接 {when}中断。"),
            vec![say!(
                language,
                "look at the phone's network; it must connect again by itself",
                "检查话机的网络；它必须自行重新连接"
            )],
        ),
        What::PingsLost(count) => make(
            "pings-lost",
            say!(
                language,
                "Its phone did not answer {count} pings and was taken for gone {when}.",
                "其话机 {count} 次 ping 未应答，{when}被视为已离开。"
            ),
            vec![look_at_network(facts)],
        ),
        What::NotStored => not_stored(facts, &when, make),
        _ => expired(facts, last, make),
    }
}

/// It was asked for its password, or its answer was not taken.
fn challenged(facts: &Facts<'_>, last: &Note, reason: Reason, make: Make<'_>) -> Verdict {
    let language = facts.language;
    let (when, from) = (ago(language, last.last_ms, facts.now_ms), source_of(language, last));
    let often = times(language, last);
    match reason {
        Reason::NoCredentials => make(
            "no-credentials",
            say!(
                language,
                "It was asked for its password {when} at {from}, and has not come back with one{often}.",
                "它 {when}在 {from} 被要求提供密码，此后未再带密码注册{often}。"
            ),
            vec![
                say!(
                    language,
                    "set user name and password in the phone; its realm must be the server's domain",
                    "在话机上填写用户名和密码；其 realm 必须是服务器的域"
                ),
                say!(
                    language,
                    "where the phone has them: look whether roost's answers reach it (NAT, firewall)",
                    "如果话机已填写：检查 roost 的应答能否到达它（NAT、防火墙）"
                ),
            ],
        ),
        reason => make(
            &reason.word(),
            say!(
                language,
                "Its last REGISTER, {when} from {from}, was answered 401 again{often}: {why}.",
                "最近一次 REGISTER（{when}，来自 {from}）再次得到 401{often}：{why}。",
                why = why_of(language, reason)
            ),
            remedy_of(facts, reason, None),
        ),
    }
}

/// The database did not take its registration.
fn not_stored(facts: &Facts<'_>, when: &str, make: Make<'_>) -> Verdict {
    let language = facts.language;
    match facts.is_database_away {
        true => make(
            "not-stored",
            say!(
                language,
                "The database is away, and did not take its registration {when}.",
                "数据库不可用，{when}未能保存它的注册。"
            ),
            vec![say!(
                language,
                "start the database; roost db check says why it cannot be reached",
                "启动数据库；roost db check 说明为何连不上"
            )],
        ),
        false => make(
            "not-stored",
            say!(
                language,
                "The database did not take its registration {when}; it answers now, so that the next REGISTER may pass.",
                "数据库 {when}未能保存它的注册；现已恢复，下一次 REGISTER 可能成功。"
            ),
            vec![say!(
                language,
                "wait for the phone's next REGISTER, or restart it; the log says what failed",
                "等话机下一次 REGISTER，或重启话机；日志说明了失败原因"
            )],
        ),
    }
}

fn other_domain(facts: &Facts<'_>, make: Make<'_>) -> Verdict {
    let names: Vec<_> = facts.elsewhere.iter().map(|other| other.name.as_str()).collect();
    let last = facts.elsewhere.first().map(|other| &other.last);
    let language = facts.language;
    let (at, when) = last.map_or((String::new(), String::new()), |last| {
        let (from, who) = (source_of(language, last), phone(language, &last.text));
        let ago = ago(language, last.last_ms, facts.now_ms);
        let at = say!(language, " at {from}{who}", "{from}{who}的");
        (at, say!(language, ", {ago} the last time", "（最近一次在 {ago}）"))
    });
    let domain = facts.aor.split_once('@').map_or(facts.aor, |(_, domain)| domain);
    let all = list(language, &names);
    let (do_not, chinese_do_not) = exist_not(names.len());
    let sentence = say!(
        language,
        "A phone{at} registers as {all} instead{when}, which {do_not} exist: the domain in its settings is not {domain}.",
        "{at}话机改以 {all} 注册{when}，而{chinese_do_not}存在：话机设置里的域不是 {domain}。"
    );
    let look = names.first().map(|name| {
        let name = argument(name);
        say!(language, "roost why {name} shows what it sends", "roost why {name} 显示它发送了什么")
    });
    let set = say!(language, "set the phone's domain to {domain}", "把话机的域改为 {domain}");
    let remedy = [set].into_iter().chain(look);
    make("other-domain", sentence, remedy.collect())
}

/// Nothing of its registration was heard.
fn unheard(facts: &Facts<'_>, make: Make<'_>) -> Verdict {
    let language = facts.language;
    let since = clock(facts.started_ms, facts.now_ms);
    if !facts.elsewhere.is_empty() {
        return other_domain(facts, make);
    }
    match facts.exists {
        Some(false) => {
            let (word, like) = match facts.similar {
                [] => ("unknown-user", String::new()),
                names => {
                    let names = list(language, names);
                    let like = say!(language, " Like it is {names}.", "相似的有：{names}。");
                    ("similar-name", like)
                }
            };
            make(
                word,
                say!(language, "There is no such extension.{like}", "没有这个分机。{like}"),
                vec![format!("roost user add {} …", argument(facts.aor)), "roost user list".to_string()],
            )
        }
        None if facts.is_database_away => make(
            "database-away",
            say!(
                language,
                "The database is away, and nothing was heard of it since {since}.",
                "数据库不可用，自 {since} 起没有收到它的任何消息。"
            ),
            vec![say!(language, "start the database", "启动数据库")],
        ),
        _ => never_seen(facts, &since, make),
    }
}

/// Of one name, or of several.
fn exist_not(count: usize) -> (&'static str, &'static str) {
    if count == 1 { ("does not", "它不") } else { ("do not", "它们都不") }
}

/// None of its REGISTERs has come.
fn never_seen(facts: &Facts<'_>, since: &str, make: Make<'_>) -> Verdict {
    let language = facts.language;
    let (do_not, chinese_do_not) = exist_not(facts.mistaken.len());
    let mistaken = match facts.mistaken {
        [] => String::new(),
        names => say!(
            language,
            " But a phone registers as {names}, which {do_not} exist: is that this one?",
            "但有话机以 {names} 注册，而{chinese_do_not}存在：是不是这一部？",
            names = list(language, names)
        ),
    };
    let look = facts.mistaken.first().map(|name| {
        let name = argument(name);
        say!(language, "roost why {name} shows where that phone is", "roost why {name} 显示那部话机在哪里")
    });
    let hints = [
        say!(
            language,
            "look at the server's address, port and transport in the phone's settings",
            "检查话机设置里的服务器地址、端口和传输方式"
        ),
        say!(
            language,
            "look at firewalls between the phone and this server",
            "检查话机与本服务器之间的防火墙"
        ),
    ];
    make(
        "never-seen",
        say!(
            language,
            "No REGISTER of it has come since roost was started at {since}.{mistaken}",
            "自 roost 于 {since} 启动以来没有收到它的 REGISTER。{mistaken}"
        ),
        look.into_iter().chain(hints).collect(),
    )
}
