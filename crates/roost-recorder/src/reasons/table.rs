//! What each reason means, for operators, in English and Chinese. Numbers never change their meaning; new ones are added at the end of
//! their hundred.

/// One entry.
#[derive(Debug, Clone, Copy)]
pub struct Explanation {
    /// `R101` and so on.
    pub number: u16,
    /// The word that logs, metrics and tools carry.
    pub word: &'static str,
    /// What happened, in one sentence: English, Chinese. In all texts `{extension}`, `{callee}` and `{address}` stand for whom it is
    /// about, who was called, and where it came from.
    pub what: [&'static str; 2],
    /// What to do about it.
    pub remedy: [&'static str; 2],
    /// What it may mean besides; empty where there is nothing.
    pub besides: [&'static str; 2],
}

macro_rules! reasons {
    ($($number:literal $word:literal $what:tt $remedy:tt $besides:tt,)*) => {
        /// All, by number.
        pub const REASONS: &[Explanation] = &[$(Explanation {
            number: $number,
            word: $word,
            what: $what,
            remedy: $remedy,
            besides: $besides,
        },)*];
    };
}

// A number, a word, what happened, what to do, what it may mean besides.
reasons! {
    101 "version"
        ["The request is not of SIP version 2.0.", "请求的 SIP 版本不是 2.0。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["A scanner sent it.", "报文来自扫描器。"],
    102 "request-line"
        ["The first line of the request has blanks where none belong, or names no address.", "请求首行有多余的空白，或者没有写地址。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["Somebody dialled a number with spaces.", "拨出的号码带有空格。"],
    103 "header-line"
        ["A header line has no colon, a bad name or a stray control character.", "某一行头没有冒号、名称无效，或含有多余的控制字符。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["A SIP ALG in a router has changed the message, or a scanner sent it.", "路由器的 SIP ALG 改动了报文，或者报文来自扫描器。"],
    104 "too-many-lines"
        ["The message has more than 512 header lines.", "报文的头超过 512 行。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["A scanner sent it.", "报文来自扫描器。"],
    105 "no-blank-line"
        ["The message ends without the empty line that closes its headers.", "报文的头之后没有空行就结束了。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["The packet was cut short on its way, by a firewall or a router.", "报文在途中被防火墙或路由器截断。"],
    106 "malformed-via"
        ["The first Via header is malformed.", "第一个 Via 头格式错误。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["A SIP ALG in a router has changed the message, or a scanner sent it.", "路由器的 SIP ALG 改动了报文，或者报文来自扫描器。"],
    107 "message-too-large"
        ["The request is larger than 64,000 bytes and cannot be passed on.", "请求超过 64,000 字节，无法转发。"]
        ["Make it smaller at the sender: fewer codecs in a call, shorter texts and no pictures in a MESSAGE.", "在发送方减小报文：呼叫少列一些编码，MESSAGE 缩短文字、不带图片。"]
        ["", ""],
    108 "bad-request-uri"
        ["The address in the first line of the request (Request-URI) cannot be read.", "请求首行的地址（Request-URI）无法解析。"]
        ["Look for blanks and special characters in the number that was dialled and in the server's name in the phone.", "检查所拨号码和话机上的服务器地址是否含有空格或特殊字符。"]
        ["", ""],
    109 "multiple-from"
        ["The message has more than one From header.", "报文中有多个 From 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    110 "multiple-to"
        ["The message has more than one To header.", "报文中有多个 To 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    111 "multiple-call-id"
        ["The message has more than one Call-ID header.", "报文中有多个 Call-ID 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    112 "multiple-cseq"
        ["The message has more than one CSeq header.", "报文中有多个 CSeq 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    113 "multiple-max-forwards"
        ["The message has more than one Max-Forwards header.", "报文中有多个 Max-Forwards 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    114 "multiple-content-length"
        ["The message has more than one Content-Length header.", "报文中有多个 Content-Length 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    115 "multiple-expires"
        ["The message has more than one Expires header.", "报文中有多个 Expires 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    116 "multiple-content-type"
        ["The message has more than one Content-Type header.", "报文中有多个 Content-Type 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    117 "malformed-from"
        ["The From header is missing, or its address cannot be read.", "没有 From 头，或者其中的地址无法解析。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["The display name or user name in the phone has quotes or special characters.", "话机上的显示名或用户名含有引号或特殊字符。"],
    118 "malformed-to"
        ["The address in the To header cannot be read.", "To 头中的地址无法解析。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["The number that was dialled has special characters.", "所拨号码含有特殊字符。"],
    119 "missing-to"
        ["The request has no To header.", "请求没有 To 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    120 "missing-call-id"
        ["The request has no Call-ID header, or an empty one.", "请求没有 Call-ID 头，或者该头为空。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    121 "missing-cseq"
        ["The request has no CSeq header.", "请求没有 CSeq 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    122 "cseq-method"
        ["CSeq names another method than the request's first line.", "CSeq 中的方法与请求首行不一致。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    123 "malformed-cseq"
        ["The CSeq header is not a number and a method.", "CSeq 头不是一个数字加一个方法。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    124 "malformed-content-length"
        ["The Content-Length header is not a number.", "Content-Length 头不是数字。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    125 "content-length-too-large"
        ["Content-Length says more bytes than arrived.", "Content-Length 大于实际收到的字节数。"]
        ["Let the phone use TCP or TLS, if large packets are cut on their way; else update its software.", "如果是大报文在途中被截断，让话机使用 TCP 或 TLS；否则升级话机固件。"]
        ["A SIP ALG in a router has changed the message, or a scanner sent it.", "路由器的 SIP ALG 改动了报文，或者报文来自扫描器。"],
    126 "missing-content-length"
        ["A message over TCP or TLS has no Content-Length, so nobody can say where the next one begins.", "经 TCP 或 TLS 到达的报文没有 Content-Length，无法判断下一条从哪里开始。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    151 "uri-scheme"
        ["The address in the first line of the request begins with neither sip:, sips: nor tel:.", "请求首行的地址既不是 sip:、sips:，也不是 tel:。"]
        ["Correct the phone's dialling rules or the link that was clicked.", "检查话机的拨号规则，或所点击的链接。"]
        ["", ""],
    152 "too-many-hops"
        ["The request has passed through too many servers: its Max-Forwards is 0.", "请求经过的服务器过多，Max-Forwards 已减到 0。"]
        ["Look for two servers that send the number to each other: check your `[[route]]` tables and the other server's routes.", "检查是否有两台服务器把号码互相转来转去：核对 `[[route]]` 和对方服务器的路由。"]
        ["Max-Forwards is not a number, or a test program has sent 0.", "Max-Forwards 不是数字，或者测试程序发的就是 0。"],
    153 "bad-extension"
        ["The sender requires a SIP feature that roost lacks; the answer names it in Unsupported.", "发送方要求了 roost 不支持的 SIP 扩展，扩展名写在应答的 Unsupported 头里。"]
        ["Switch this feature off in the phone or at the provider.", "在话机或运营商一侧关闭该扩展。"]
        ["", ""],
    154 "register-in-dialog"
        ["A REGISTER has a tag in To, as if it belonged to a call.", "REGISTER 的 To 带有 tag，好像属于某个呼叫。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    155 "method-not-allowed"
        ["The phone sent a SUBSCRIBE or PUBLISH, and no `[[route]]` takes it.", "话机发来 SUBSCRIBE 或 PUBLISH，而没有 `[[route]]` 接收它。"]
        ["Make a `[[route]]` with `events` or `methods` to your media server, or switch off presence, BLF and MWI in the phone.", "设置带 `events` 或 `methods` 的 `[[route]]`，送往媒体服务器；或在话机上关闭状态呈现、BLF、MWI。"]
        ["Registering and calling work regardless.", "不影响注册和呼叫。"],
    201 "to-without-address"
        ["To of the REGISTER names no SIP address, and `auth.realm` is empty.", "REGISTER 的 To 中没有 SIP 地址，而 `auth.realm` 又为空。"]
        ["Enter user name and server in the phone, or set `auth.realm`.", "在话机上填写用户名和服务器，或设置 `auth.realm`。"]
        ["", ""],
    202 "no-realm"
        ["Neither From nor To names a domain, and `auth.realm` is empty, so that the caller cannot be asked for a password.", "From 和 To 都没有域，`auth.realm` 又为空，因此无法要求主叫验证密码。"]
        ["Set `auth.realm`, or enter the server's domain in the phone.", "设置 `auth.realm`，或在话机上填写服务器的域。"]
        ["", ""],
    203 "no-credentials"
        ["The request had no credentials for this realm, and the phone was asked for them.", "请求没有该 realm 的认证信息，roost 要求话机验证密码。"]
        ["Nothing, if the phone repeats it and succeeds; else enter user name and password in the phone, and compare its realm with `auth.realm`.", "话机重发后成功就不用处理；否则检查话机的用户名和密码，并核对其 realm 与 `auth.realm`。"]
        ["The first request of a phone is always so.", "话机的第一个请求都是这样。"],
    204 "nonce-expired"
        ["The phone answered an old challenge: older than `auth.nonce_expire` seconds, or not made by this server.", "话机用的是旧质询：超过了 `auth.nonce_expire` 秒，或不是本服务器发出的。"]
        ["Nothing: the phone repeats by itself; to have fewer of these raise `auth.nonce_expire` and set `auth.secret`.", "不用处理，话机会自动重试；想减少次数，可调大 `auth.nonce_expire`，并设置 `auth.secret`。"]
        ["roost was restarted with `dialog.journal = \"off\"` and without `auth.secret`.", "roost 重启过，而 `dialog.journal = \"off\"` 且没有设置 `auth.secret`。"],
    205 "nonce-used"
        ["The phone used a nonce, or its count (nc), a second time.", "话机重复使用了 nonce 或其计数（nc）。"]
        ["Nothing, if the phone repeats it and succeeds; else update the phone, or set `auth.qop = \"off\"` and `auth.disable_nonce_check = true`.", "话机重试后成功就不用处理；否则升级话机固件，或设置 `auth.qop = \"off\"` 和 `auth.disable_nonce_check = true`。"]
        ["Somebody listens in and sends copies of requests.", "有人监听网络并重放请求。"],
    206 "qop-not-offered"
        ["The phone answered the challenge with a qop other than auth, such as auth-int.", "话机应答质询时使用了 auth 以外的 qop，例如 auth-int。"]
        ["Switch auth-int off in the phone, or update it.", "在话机上关闭 auth-int，或升级固件。"]
        ["", ""],
    207 "algorithm-not-offered"
        ["The phone answered the challenge with a digest algorithm that is not in `auth.algorithms`.", "话机使用的摘要算法不在 `auth.algorithms` 中。"]
        ["Add the algorithm to `auth.algorithms`, or choose another one in the phone.", "把该算法加入 `auth.algorithms`，或在话机上换一种。"]
        ["", ""],
    208 "malformed-credentials"
        ["The Authorization or Proxy-Authorization header cannot be read.", "Authorization 或 Proxy-Authorization 头无法解析。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    209 "incomplete-credentials"
        ["The credentials lack the user name, the nonce, the uri or the response.", "认证信息缺少用户名、nonce、uri 或 response。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["No user name is entered in the phone.", "话机上没有填写用户名。"],
    210 "qop-without-count"
        ["The credentials say qop=auth, but not the count (nc) or the cnonce that go with it.", "认证信息写了 qop=auth，却没有相应的 nc 或 cnonce。"]
        ["Update the phone, or set `auth.qop = \"off\"`.", "升级话机固件，或设置 `auth.qop = \"off\"`。"]
        ["", ""],
    211 "malformed-count"
        ["The count (nc) in the credentials is not a hexadecimal number of up to eight digits.", "认证信息中的 nc 不是最多八位的十六进制数。"]
        ["Update the phone, or set `auth.qop = \"off\"`.", "升级话机固件，或设置 `auth.qop = \"off\"`。"]
        ["", ""],
    212 "banned-pair"
        ["This extension is banned at this address, after `auth.ban_failures` wrong passwords from there.", "该地址对该分机输错密码达到 `auth.ban_failures` 次，这一组合被封禁。"]
        ["Correct the password in the phone or with `roost user passwd {extension} …`, which lifts the ban, or lift it with `roost ban rm {extension}`; `roost ban list` shows how long it lasts.", "改正话机的密码，或用 `roost user passwd {extension} …` 修改（同时解封），或用 `roost ban rm {extension}` 解封；`roost ban list` 显示剩余时间。"]
        ["Somebody guesses the password, or an operator has banned the two (`roost ban add`).", "有人在猜密码，或管理员封禁了这一组合（`roost ban add`）。"],
    213 "banned-source"
        ["This address is banned: too many extensions failed from there (`auth.ban_source_failures`); phones that are registered from it are not hit.", "该地址试错的分机过多（`auth.ban_source_failures`），被封禁；已从该地址注册的话机不受影响。"]
        ["Look at `roost ban list`; if the address is one of yours, correct its phones' passwords, then `roost ban rm {address}`; for large sites raise `auth.ban_source_failures`.", "查看 `roost ban list`；如果是自己的地址，改正那里话机的密码，再执行 `roost ban rm {address}`；话机多的站点可调大 `auth.ban_source_failures`。"]
        ["A scanner, or many phones behind one router whose passwords have been changed.", "扫描器；或同一路由器后许多话机的密码刚被修改。"],
    214 "banned-user"
        ["This extension is banned for all addresses but its registered phone's: too many wrong passwords came for it (`auth.ban_user_failures`).", "该分机被输错密码过多（`auth.ban_user_failures`），除其在线话机外，所有地址一律封禁。"]
        ["Give it a strong password with `roost user passwd {extension} …`, which lifts the ban, or lift it with `roost ban rm {extension}`.", "用 `roost user passwd {extension} …` 换一个强密码（同时解封），或用 `roost ban rm {extension}` 解封。"]
        ["Many addresses guess its password, or an operator has banned it (`roost ban add`).", "许多地址在猜它的密码，或管理员封禁了它（`roost ban add`）。"],
    215 "wrong-password"
        ["The phone's password is not the extension's.", "话机的密码与该分机的密码不一致。"]
        ["Set the same password in the phone and in roost: `roost user passwd {extension} …`.", "让话机与 roost 的密码一致：`roost user passwd {extension} …`。"]
        ["Somebody guesses; or the database holds hashes (`auth_db.calculate_ha1 = false`) of another realm than `auth.realm`.", "有人在猜密码；或数据库存的哈希值（`auth_db.calculate_ha1 = false`）与 `auth.realm` 不是同一个 realm。"],
    216 "unknown-user"
        ["There is no such extension, or not in this domain.", "没有这个分机，或不在这个域。"]
        ["Look for it with `roost user list`, add it with `roost user add {extension} …`; with `use_domain` the phone's domain must be the extension's.", "用 `roost user list` 查看，用 `roost user add {extension} …` 添加；启用 `use_domain` 时，话机的域必须是该分机的域。"]
        ["A scanner tries names.", "扫描器在试分机号。"],
    217 "unknown-user-hidden"
        ["There is no such extension; the phone was told 403, as for a wrong password (`auth.hide_unknown_users`).", "没有这个分机；因为 `auth.hide_unknown_users`，话机得到的是与密码错误相同的 403。"]
        ["Look for it with `roost user list`, add it with `roost user add {extension} …`; with `use_domain` the phone's domain must be the extension's.", "用 `roost user list` 查看，用 `roost user add {extension} …` 添加；启用 `use_domain` 时，话机的域必须是该分机的域。"]
        ["A scanner tries names.", "扫描器在试分机号。"],
    218 "other-user"
        ["The password is right, but it is that of another extension than To (REGISTER) or From names.", "密码正确，但认证用户名与 To（REGISTER）或 From 中的分机不一致。"]
        ["Make the phone's user name and authentication name equal; or set `auth.check_to = false`, for calls `proxy.check_from = false`.", "让话机的用户名和认证名一致；或设置 `auth.check_to = false`，呼叫则设置 `proxy.check_from = false`。"]
        ["Somebody registers or calls under another's name.", "有人冒用别人的分机注册或呼叫。"],
    219 "credentials-not-loaded"
        ["The database did not say in time what the extension's password is.", "数据库没有及时给出该分机的密码。"]
        ["Read roost's log for the database's error; `roost db check` says whether it can be reached; check free disk space and the rights on it.", "在 roost 日志中查看数据库的错误；用 `roost db check` 检查能否访问；检查磁盘空间和数据库的权限。"]
        ["", ""],
    301 "too-many-nonces"
        ["More nonces are in use at once than roost remembers.", "同时使用的 nonce 超过了 roost 能记住的数量。"]
        ["Lower `auth.nonce_expire`, or set `auth.qop = \"off\"` and `auth.disable_nonce_check = true`.", "调小 `auth.nonce_expire`，或设置 `auth.qop = \"off\"` 和 `auth.disable_nonce_check = true`。"]
        ["Many phones register at once, such as after a power cut, or somebody floods roost.", "大量话机同时注册（例如停电恢复之后），或者有人在洪泛。"],
    302 "too-many-for-user"
        ["Too many requests of one extension wait for its password from the database.", "同一分机有太多请求在等数据库给出它的密码。"]
        ["See why the database is slow (`roost stats sql:`, `roost stats database:`); the phones try again after Retry-After.", "检查数据库为什么慢（`roost stats sql:`、`roost stats database:`）；话机会在 Retry-After 之后重试。"]
        ["A phone repeats its request in a fast loop.", "话机在高速循环重发请求。"],
    303 "too-many-unknown-names"
        ["Requests name too many extensions that do not exist: a worker looks up at most 100 such names a second.", "不存在的分机号过多：每个工作线程每秒最多查询 100 个这样的名字。"]
        ["Find the sender in the log and ban it with `roost ban add {address}`, or set `pike.reqs_density_per_unit`.", "在日志中找到来源，用 `roost ban add {address}` 封禁，或设置 `pike.reqs_density_per_unit`。"]
        ["Another program has just written many extensions into the database.", "其他程序刚向数据库写入了许多分机。"],
    304 "too-many-lookups"
        ["The passwords of too many extensions are being read from the database at once.", "正在从数据库读取密码的分机过多。"]
        ["See why the database is slow (`roost stats sql:`, `roost stats database:`); the phones try again after Retry-After.", "检查数据库为什么慢（`roost stats sql:`、`roost stats database:`）；话机会在 Retry-After 之后重试。"]
        ["Many phones register at once, such as after a power cut, or somebody floods roost.", "大量话机同时注册（例如停电恢复之后），或者有人在洪泛。"],
    305 "too-many-waiting"
        ["Too many requests wait for the database.", "等待数据库的请求过多。"]
        ["See why the database is slow (`roost stats sql:`, `roost stats database:`); the phones try again after Retry-After.", "检查数据库为什么慢（`roost stats sql:`、`roost stats database:`）；话机会在 Retry-After 之后重试。"]
        ["Many phones register at once, such as after a power cut, or somebody floods roost.", "大量话机同时注册（例如停电恢复之后），或者有人在洪泛。"],
    306 "too-many-commits"
        ["Too many changes of registrations wait for the database to store them.", "等待写入数据库的注册变更过多。"]
        ["See why the database is slow (`roost stats sql:`, `roost stats database:`); the phones try again after Retry-After.", "检查数据库为什么慢（`roost stats sql:`、`roost stats database:`）；话机会在 Retry-After 之后重试。"]
        ["Many phones register at once, such as after a power cut, or somebody floods roost.", "大量话机同时注册（例如停电恢复之后），或者有人在洪泛。"],
    307 "too-many-bindings-held"
        ["The extension has 1,000 bindings in memory, with expired ones and those of `roost ul add`.", "该分机在内存中已有 1,000 条绑定，包括过期的和 `roost ul add` 添加的。"]
        ["Look at them with `roost ul show {extension}`, and remove them with `roost ul rm {extension}`.", "用 `roost ul show {extension}` 查看，用 `roost ul rm {extension}` 删除。"]
        ["A program adds bindings and never removes them.", "某个程序只添加绑定，从不删除。"],
    308 "too-many-for-aor"
        ["Too many requests of one extension wait while the database stores one before them.", "同一分机有太多请求在等前一个写入数据库。"]
        ["See why the database is slow (`roost stats sql:`, `roost stats database:`); the phones try again after Retry-After.", "检查数据库为什么慢（`roost stats sql:`、`roost stats database:`）；话机会在 Retry-After 之后重试。"]
        ["A phone registers in a fast loop.", "话机在高速循环注册。"],
    309 "too-many-transactions"
        ["Too many requests are in progress at once, or their messages take too much memory.", "同时处理的请求过多，或其报文占用内存过多。"]
        ["Look at `roost stats tm:`; find in the log who sends so much; take next hops that do not answer out with `roost ds set-state`.", "查看 `roost stats tm:`；在日志中找出谁发得这么多；用 `roost ds set-state` 停用不应答的下一跳。"]
        ["Many phones register at once, such as after a power cut, or somebody floods roost.", "大量话机同时注册（例如停电恢复之后），或者有人在洪泛。"],
    310 "rows-not-read"
        ["roost has just started, and did not read this extension's registration from the database within 8 seconds.", "roost 刚启动，8 秒内还没有从数据库读到该分机的注册信息。"]
        ["Wait until `/readyz` says 200; the phones try again after Retry-After. If it takes long, see why the database is slow.", "等 `/readyz` 返回 200；话机会在 Retry-After 之后重试。如果持续很久，检查数据库为什么慢。"]
        ["", ""],
    311 "node-cut-off"
        ["This node is cut off from the store that the nodes share: it takes no registrations (503) until it reaches it again.", "本节点与各节点共享的存储断开：恢复之前不接受注册（503）。"]
        ["See `roost nodes` and the log; mend the network to the store, or the store. Phones register with another node meanwhile.", "查看 `roost nodes` 和日志；修复到存储的网络或存储本身。期间话机向其他节点注册。"]
        ["The process stood still for more than five seconds.", "进程停顿超过五秒。"],
    312 "draining"
        ["This server is being taken out of service (`roost drain`): it takes no registrations and no new calls (503); calls in progress go on.", "本服务器正在退出服务（`roost drain`）：不接受注册和新呼叫（503），进行中的呼叫继续。"]
        ["Let the phones use another server meanwhile; `roost drain --undo` takes it back into service.", "期间让话机使用其他服务器；`roost drain --undo` 恢复服务。"]
        ["", ""],
    401 "occupied"
        ["The extension is registered from another IP address (`registrar.exclusive = \"ip\"`).", "该分机已在另一个 IP 注册（`registrar.exclusive = \"ip\"`）。"]
        ["See where with `roost ul show {extension}`; unregister that phone, wait until it expires, or remove it with `roost ul rm {extension}`; or set `registrar.exclusive = \"off\"`.", "用 `roost ul show {extension}` 查看在哪里；注销那台话机，或等它过期，或用 `roost ul rm {extension}` 删除；或设置 `registrar.exclusive = \"off\"`。"]
        ["It is the same phone, whose address has changed; or two phones use one extension.", "同一台话机换了地址；或两台话机共用一个分机。"],
    402 "occupied-in-database"
        ["The database says that the extension is registered from another IP address, perhaps at another server.", "数据库显示该分机已在另一个 IP 注册，可能在另一台服务器上。"]
        ["Ask each server with `roost ul show {extension}`; unregister that phone, wait until it expires, or remove it there with `roost ul rm {extension}`.", "在每台服务器上用 `roost ul show {extension}` 查看；注销那台话机，或等它过期，或在那里用 `roost ul rm {extension}` 删除。"]
        ["A row of `location` that another program has left behind.", "其他程序在 `location` 表中留下的记录。"],
    403 "aor-parse"
        ["To of the REGISTER names no extension.", "REGISTER 的 To 中没有分机号。"]
        ["Enter the extension as the user name in the phone.", "在话机上把分机号填为用户名。"]
        ["", ""],
    404 "aor-too-long"
        ["The extension's name or its domain is longer than 64 bytes.", "分机名或域超过 64 字节。"]
        ["Use a shorter user name and domain in the phone.", "在话机上使用较短的用户名和域。"]
        ["", ""],
    405 "path-parse"
        ["The edge proxy's Path is not a list of routes, begins without `;lr`, or is longer than its column in the database.", "边缘代理的 Path 不是路由列表、第一项没有 `;lr`，或比数据库列更长。"]
        ["Correct the edge proxy; or set `registrar.path = \"ignore\"`.", "修正边缘代理；或设置 `registrar.path = \"ignore\"`。"]
        ["Phones behind the edge proxy may be out of reach without the Path.", "不保存 Path 时，可能无法呼叫边缘代理后面的话机。"],
    406 "path-not-supported"
        ["The REGISTER came with a Path, the phone does not know Path, and `registrar.path = \"strict\"`.", "REGISTER 带有 Path，而话机不支持 Path，且 `registrar.path = \"strict\"`。"]
        ["Set `registrar.path = \"lazy\"`.", "设置 `registrar.path = \"lazy\"`。"]
        ["", ""],
    407 "too-many-contacts-in-request"
        ["One REGISTER names more than 20 contacts.", "一个 REGISTER 中的 Contact 超过 20 个。"]
        ["Let the phone register fewer contacts.", "让话机少注册一些 Contact。"]
        ["A program is testing limits.", "有程序在试探上限。"],
    408 "contact-parse"
        ["The Contact header cannot be read.", "Contact 头无法解析。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["A SIP ALG in a router has changed the message, or a scanner sent it.", "路由器的 SIP ALG 改动了报文，或者报文来自扫描器。"],
    409 "call-id-not-found"
        ["The REGISTER has no Call-ID header, or an empty one.", "REGISTER 没有 Call-ID 头，或者该头为空。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    410 "call-id-too-long"
        ["The REGISTER's Call-ID is longer than its column in the database (2,048 bytes with SQLite).", "REGISTER 的 Call-ID 比数据库列更长（SQLite 为 2,048 字节）。"]
        ["Widen the column that `usrloc.callid_column` names and restart roost, or update the phone.", "加宽 `usrloc.callid_column` 所指的列并重启 roost，或升级话机固件。"]
        ["", ""],
    411 "cseq-not-found"
        ["The REGISTER has no CSeq header.", "REGISTER 没有 CSeq 头。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    412 "expires-parse"
        ["The Expires header is not a number of seconds.", "Expires 头不是秒数。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["The registration time in the phone is not a number.", "话机上填写的注册时长不是数字。"],
    413 "star-with-others"
        ["The REGISTER has `Contact: *` and another contact beside it.", "REGISTER 的 `Contact: *` 之外还有其他 Contact。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    414 "star-with-expires"
        ["The REGISTER has `Contact: *`, which removes all, without `Expires: 0`.", "REGISTER 用 `Contact: *` 注销全部，却没有 `Expires: 0`。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    415 "cseq-order"
        ["The REGISTER's CSeq is not higher than that of the one before it with the same Call-ID.", "REGISTER 的 CSeq 没有大于同一 Call-ID 的上一个。"]
        ["Nothing, if it comes once; else wait until the binding expires, or remove it with `roost ul rm {extension}`, and update the phone.", "只出现一次就不用处理；否则等绑定过期，或用 `roost ul rm {extension}` 删除，并升级话机固件。"]
        ["The phone has restarted its counter, or a REGISTER came late.", "话机重置了计数，或 REGISTER 迟到。"],
    416 "q-invalid"
        ["The priority (q) of a contact is not a number from 0 to 1.", "Contact 的优先级（q）不是 0 到 1 之间的数。"]
        ["Correct q in the phone, or leave it out.", "在话机上改正 q，或不填。"]
        ["", ""],
    417 "contact-too-long"
        ["The address in Contact is longer than its column in the database (2,048 bytes with SQLite).", "Contact 中的地址比数据库列更长（SQLite 为 2,048 字节）。"]
        ["Widen the column that `usrloc.contact_column` names and restart roost, or update the phone.", "加宽 `usrloc.contact_column` 所指的列并重启 roost，或升级话机固件。"]
        ["", ""],
    418 "too-many-contacts"
        ["The extension has `registrar.max_contacts` phones registered already, and `registrar.force_registration` is false.", "该分机的注册数已达 `registrar.max_contacts`，而 `registrar.force_registration` 为 false。"]
        ["Raise `registrar.max_contacts`, or set `registrar.force_registration = true`; `roost ul show {extension}` lists the phones.", "调大 `registrar.max_contacts`，或设置 `registrar.force_registration = true`；`roost ul show {extension}` 列出已注册的话机。"]
        ["Bindings of a phone that has changed its address, and have not expired yet.", "话机换了地址，旧的绑定还没有过期。"],
    419 "insert-failed"
        ["The database did not take a new registration.", "数据库没有接受新的注册。"]
        ["Read roost's log for the database's error; `roost db check` says whether it can be reached; check free disk space and the rights on it.", "在 roost 日志中查看数据库的错误；用 `roost db check` 检查能否访问；检查磁盘空间和数据库的权限。"]
        ["The database was restarted or the network to it was down.", "数据库重启过，或通往数据库的网络中断。"],
    420 "update-failed"
        ["The database did not take a refreshed registration.", "数据库没有接受注册的刷新。"]
        ["Read roost's log for the database's error; `roost db check` says whether it can be reached; check free disk space and the rights on it.", "在 roost 日志中查看数据库的错误；用 `roost db check` 检查能否访问；检查磁盘空间和数据库的权限。"]
        ["The database was restarted or the network to it was down.", "数据库重启过，或通往数据库的网络中断。"],
    421 "delete-failed"
        ["The database did not take the end of a registration.", "数据库没有接受注册的注销。"]
        ["Read roost's log for the database's error; `roost db check` says whether it can be reached; check free disk space and the rights on it.", "在 roost 日志中查看数据库的错误；用 `roost db check` 检查能否访问；检查磁盘空间和数据库的权限。"]
        ["The database was restarted or the network to it was down.", "数据库重启过，或通往数据库的网络中断。"],
    501 "no-number"
        ["The request names nobody to call: its Request-URI has no user.", "请求没有写要呼叫谁：Request-URI 中没有用户部分。"]
        ["Correct the phone's dialling rules.", "检查话机的拨号规则。"]
        ["", ""],
    502 "nothing-left-of-number"
        ["The number's `[[route]]` takes all of it off (`strip`) and puts nothing in its place (`prepend`).", "该号码的 `[[route]]` 用 `strip` 把号码全部去掉，又没有 `prepend`。"]
        ["Lower `strip`, or let `user` of the route ask for longer numbers; then `roost ds reload`.", "调小 `strip`，或让路由的 `user` 只匹配更长的号码；然后执行 `roost ds reload`。"]
        ["", ""],
    503 "loop"
        ["The request came back as it had been sent.", "请求原样绕了回来。"]
        ["Look with `roost ul show {callee}` whether the callee's Contact names roost itself, and whether a next hop sends the number back.", "用 `roost ul show {callee}` 检查被叫的 Contact 是否指向 roost 自己，以及下一跳是否把号码送了回来。"]
        ["", ""],
    504 "malformed-route"
        ["A Route header cannot be read.", "Route 头无法解析。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["", ""],
    505 "route-to-stranger"
        ["The request asks, by its Route, to be sent to an address that is neither trusted nor a next hop.", "请求的 Route 指向一个既不可信、也不是下一跳的地址。"]
        ["If the name is roost's own, add it to `domains`; if the address is yours, add it to `proxy.trusted` or to a `[[route]]`; it may then call without a password.", "如果是 roost 自己的名字，加入 `domains`；如果是自己的地址，加入 `proxy.trusted` 或 `[[route]]`，此后它呼叫时无须验证密码。"]
        ["Somebody tries to send calls elsewhere through roost.", "有人想借 roost 把呼叫转到别处。"],
    506 "not-our-dialog"
        ["A request inside a call leads to an address that is no registered phone's, and roost does not know the call as its own.", "呼叫中的请求指向一个没有注册的地址，而 roost 不认得这通呼叫。"]
        ["Let the phone send back the Record-Route of the call unchanged, or update it.", "让话机原样带回呼叫的 Record-Route，或升级固件。"]
        ["`auth.secret` has changed during the call, or roost was restarted with `dialog.journal = \"off\"`.", "通话期间 `auth.secret` 改变了，或 roost 在 `dialog.journal = \"off\"` 时重启过。"],
    507 "dialog-without-route"
        ["A request inside a call came without a Route: the phone ignores Record-Route.", "呼叫中的请求没有带 Route：话机忽略了 Record-Route。"]
        ["Update the phone, or correct the server between it and roost.", "升级话机固件，或修正它与 roost 之间的服务器。"]
        ["The call never went through roost.", "这通呼叫没有经过 roost。"],
    508 "not-registered"
        ["The callee is not registered, and no `[[route]]` takes the call.", "被叫没有注册，也没有 `[[route]]` 接走这通呼叫。"]
        ["Look at `roost ul show {callee}` and `roost config show`; for voicemail make a `[[route]]` with `on = [\"offline\"]`.", "查看 `roost ul show {callee}` 和 `roost config show`；要转语音信箱，设置 `on = [\"offline\"]` 的 `[[route]]`。"]
        ["There is no such extension: the number was dialled wrongly.", "没有这个分机：号码拨错了。"],
    509 "method-not-taken"
        ["The callee is registered, but none of its phones takes this method, says its Allow header.", "被叫已注册，但其话机的 Allow 都不含该方法。"]
        ["Look at `Methods` in `roost ul show {callee}`; switch the feature on in that phone, or update it.", "查看 `roost ul show {callee}` 中的 `Methods`；在那台话机上启用该功能，或升级固件。"]
        ["", ""],
    510 "callee-not-looked-up"
        ["The database did not say in time whether the called number is an extension.", "数据库没有及时回答所拨号码是不是分机。"]
        ["Read roost's log for the database's error; `roost db check` says whether it can be reached; check free disk space and the rights on it.", "在 roost 日志中查看数据库的错误；用 `roost db check` 检查能否访问；检查磁盘空间和数据库的权限。"]
        ["", ""],
    511 "callee-has-enough"
        ["The callee has as many calls as it may have (`dialog.max_calls`).", "被叫的呼叫数已达 `dialog.max_calls`。"]
        ["Look at `roost agents` and `roost calls`; end a call that hangs with `roost calls end`, or raise `dialog.max_calls`.", "用 `roost agents` 和 `roost calls` 查看；用 `roost calls end` 结束残留的呼叫，或调大 `dialog.max_calls`。"]
        ["A BYE was lost; `dialog.options_ping_interval` finds such calls.", "丢失了 BYE；`dialog.options_ping_interval` 可以发现这样的呼叫。"],
    512 "caller-has-enough"
        ["The caller has as many calls as it may have (`dialog.max_calls`).", "主叫的呼叫数已达 `dialog.max_calls`。"]
        ["Look at `roost agents` and `roost calls`; end a call that hangs with `roost calls end`, or raise `dialog.max_calls`.", "用 `roost agents` 和 `roost calls` 查看；用 `roost calls end` 结束残留的呼叫，或调大 `dialog.max_calls`。"]
        ["A BYE was lost; or somebody has the password and calls at your cost.", "丢失了 BYE；或有人盗用密码打电话。"],
    513 "too-many-calls"
        ["As many calls are in progress as there may be in all (`proxy.max_calls`).", "同时进行的呼叫总数已达 `proxy.max_calls`。"]
        ["Look at `roost calls`; raise `proxy.max_calls`.", "用 `roost calls` 查看；调大 `proxy.max_calls`。"]
        ["Calls that nobody ends are left until `dialog.default_timeout`.", "没有人结束的呼叫会留到 `dialog.default_timeout`。"],
    514 "no-next-hop"
        ["None of the next hops of the number's `[[route]]` is in use.", "该号码的 `[[route]]` 没有可用的下一跳。"]
        ["Look at `roost ds list`; see why the servers do not answer OPTIONS, or put them in use with `roost ds set-state active`.", "查看 `roost ds list`；检查这些服务器为什么不应答 OPTIONS，或用 `roost ds set-state active` 重新启用。"]
        ["", ""],
    515 "no-own-connection"
        ["The callee is reached over a connection that only its phone can make, and that is lost.", "被叫只能经话机自己建立的连接呼叫，而该连接已断。"]
        ["Wait until the phone registers again; a shorter `registrar.max_expires` makes that sooner; see why its connection breaks.", "等话机重新注册；调短 `registrar.max_expires` 可更快恢复；检查连接为什么会断。"]
        ["", ""],
    516 "connection-lost"
        ["The connection to the callee's phone was lost when the call was sent.", "把呼叫送往被叫话机时，连接已断。"]
        ["Wait until the phone registers again; a shorter `registrar.max_expires` makes that sooner; see why its connection breaks.", "等话机重新注册；调短 `registrar.max_expires` 可更快恢复；检查连接为什么会断。"]
        ["", ""],
    517 "unresolvable"
        ["The callee's or next hop's address is a name that DNS does not know, or cannot be read.", "被叫或下一跳的地址是 DNS 查不到的主机名，或无法解析。"]
        ["Look the name up with `dig`, and check `dns.servers`; let the phone put an IP address into its Contact.", "用 `dig` 检查该主机名，核对 `dns.servers`；让话机在 Contact 中写 IP 地址。"]
        ["No name server has answered in time.", "域名服务器没有及时应答。"],
    518 "sips-insecure"
        ["A sips: address was called, and the request did not come over TLS or WSS.", "呼叫的是 sips: 地址，而请求不是经 TLS 或 WSS 到达的。"]
        ["Call sip: instead, or let the phone use TLS.", "改呼 sip:，或让话机使用 TLS。"]
        ["", ""],
    519 "sips-unreachable"
        ["A sips: address was called, and nothing leads to the callee over TLS or WSS.", "呼叫的是 sips: 地址，而没有通向被叫的 TLS 或 WSS 连接。"]
        ["Call sip: instead, or let the callee register over TLS.", "改呼 sip:，或让被叫经 TLS 注册。"]
        ["", ""],
    520 "no-transport"
        ["The callee's Contact or the next hop wants a transport that roost does not listen on.", "被叫的 Contact 或下一跳要求 roost 没有监听的传输方式。"]
        ["Add this transport to `listen`, or set another one in the phone or the `[[route]]`.", "在 `listen` 中加入该传输方式，或在话机、`[[route]]` 中换一种。"]
        ["", ""],
    521 "no-address-family"
        ["The callee or the next hop has an IPv4 address and roost listens on IPv6 alone, or the other way round.", "被叫或下一跳是 IPv4 地址而 roost 只监听 IPv6，或者相反。"]
        ["Add an address of that kind to `listen`.", "在 `listen` 中加入这类地址。"]
        ["", ""],
    522 "no-connection"
        ["The call could not be sent to the callee or the next hop: no connection could be made.", "无法把呼叫送往被叫或下一跳：连接建立失败。"]
        ["Check address, port and firewall of the other side; phones behind NAT must register again.", "检查对方的地址、端口和防火墙；NAT 之后的话机须重新注册。"]
        ["With TLS the other side's certificate may be wrong (`tls.verify_cert`).", "使用 TLS 时，对方的证书可能有问题（`tls.verify_cert`）。"],
    523 "cancelled"
        ["The caller gave up before anybody answered.", "无人接听时主叫已放弃。"]
        ["Nothing; if callers give up often, see how long the callees ring.", "不用处理；如果经常放弃，检查被叫要振铃多久。"]
        ["", ""],
    524 "no-answer"
        ["Nobody answered the call: there was no reply within `tm.fr_timeout`, or it rang for `tm.fr_inv_timeout`.", "呼叫无人应答：`tm.fr_timeout` 内没有任何应答，或振铃超过 `tm.fr_inv_timeout`。"]
        ["Check the callee's network; raise the time.", "检查被叫的网络；调大时间。"]
        ["", ""],
    525 "node-down"
        ["The node that has the callee's phone is down (480).", "被叫话机所在的节点不可用（480）。"]
        ["See `roost nodes`, and bring that node back; its phones are reached at once when they register with another node, or when it is back.", "查看 `roost nodes` 并恢复该节点；话机向其他节点注册之后，或该节点恢复之后，即可呼叫。"]
        ["That node is cut off from the store for more than five seconds.", "该节点与存储服务器断开超过五秒。"],
    526 "route-replies"
        ["A `[[route]]` with `reply` answers calls like this one, for example during maintenance.", "设置了 `reply` 的 `[[route]]` 直接应答这类呼叫，例如维护期间。"]
        ["If it should go through, change or remove that `[[route]]` and run `roost reload`; `roost try` shows which one it is.", "如果应当放行，修改或删除该 `[[route]]` 后执行 `roost reload`；`roost try` 显示是哪一条。"]
        ["", ""],
    601 "flooded"
        ["An address sent more requests than `pike.reqs_density_per_unit`; the rest got no answer.", "某地址的请求数超过 `pike.reqs_density_per_unit`，多出的没有应答。"]
        ["If the address is one of yours, raise `pike.reqs_density_per_unit` to several times what your largest site sends; else ban it: `roost ban add {address}`.", "如果是自己的地址，把 `pike.reqs_density_per_unit` 调到最大站点请求数的数倍；否则用 `roost ban add {address}` 封禁。"]
        ["Many phones behind one router start at once, such as after a power cut.", "同一路由器后的许多话机同时启动，例如停电恢复之后。"],
    602 "scanner"
        ["The request's User-Agent is that of a scanner (`pike.drop_user_agents`); it got no answer.", "请求的 User-Agent 属于扫描器（`pike.drop_user_agents`），没有应答。"]
        ["Nothing; if it is a program of yours, take its name out of `pike.drop_user_agents`.", "不用处理；如果是自己的程序，从 `pike.drop_user_agents` 中去掉它的名字。"]
        ["", ""],
    603 "banned-address"
        ["An operator has banned this address; none of its requests is answered.", "管理员封禁了该地址，它的所有请求都没有应答。"]
        ["Look at `roost ban list`; lift the ban with `roost ban rm {address}`.", "查看 `roost ban list`；用 `roost ban rm {address}` 解封。"]
        ["Addresses that are banned for wrong passwords get 403 instead.", "因输错密码被封禁的地址得到的是 403。"],
    604 "shed"
        ["roost had too much to do, and dropped a REGISTER without credentials; its phone sends it again.", "roost 过载，丢弃了一个不带认证信息的 REGISTER；话机会重发。"]
        ["Nothing after a short peak; else give roost more CPU (`workers`), or raise `registrar.max_expires`, so that phones register less often.", "短时高峰不用处理；否则增加 CPU（`workers`），或调大 `registrar.max_expires`，减少话机注册的次数。"]
        ["Many phones register at once, such as after a power cut, or somebody floods roost.", "大量话机同时注册（例如停电恢复之后），或者有人在洪泛。"],
    605 "inbox-full"
        ["A message was dropped, because too many waited for the worker that it belongs to.", "某个工作线程等待处理的报文过多，丢弃了一个。"]
        ["Look at `roost stats roost:`; if it goes on, give roost more CPU, and find in the log who sends so much.", "查看 `roost stats roost:`；如果持续出现，增加 CPU，并在日志中找出谁发得这么多。"]
        ["Many phones register at once, such as after a power cut, or somebody floods roost.", "大量话机同时注册（例如停电恢复之后），或者有人在洪泛。"],
    606 "not-sip"
        ["What arrived at a SIP port was not SIP.", "SIP 端口收到的不是 SIP 报文。"]
        ["Nothing, if strangers send it; else see which program at that address uses this port.", "来自陌生地址就不用处理；否则检查该地址上是哪个程序在用这个端口。"]
        ["A phone uses another transport than the port is for, such as TLS at the port of TCP.", "话机使用的传输方式与端口不符，例如向 TCP 端口发 TLS。"],
    607 "no-via"
        ["A request has no usable Via header, so that nobody knows where to answer.", "请求没有可用的 Via 头，不知道该往哪里应答。"]
        ["Look at the message with `opensips-cli -x trace` or `[[hep]]`; then update the phone's or provider's software or report the fault, and switch off SIP ALG in the router.", "用 `opensips-cli -x trace` 或 `[[hep]]` 查看报文，升级话机固件或向厂商、运营商反馈；路由器的 SIP ALG 请关闭。"]
        ["A scanner sent it.", "报文来自扫描器。"],
    608 "stray-response"
        ["A response came that belongs to no request of roost's.", "收到一个应答，但它不属于 roost 的任何请求。"]
        ["Nothing, if there are few; else see who sends them (`[[hep]]`), and whether that side answers late.", "数量不多就不用处理；否则用 `[[hep]]` 查看是谁发的，对方是否应答过迟。"]
        ["The answer came after the time was over, or after a restart.", "应答在超时或重启之后才到。"],
    609 "stray-request"
        ["An ACK or a CANCEL came that belongs to no call that roost knows, and was dropped: neither is ever answered with a refusal.", "收到不属于任何已知呼叫的 ACK 或 CANCEL，已丢弃：这两种请求不会以拒绝应答。"]
        ["Nothing, if it comes now and then: a retransmission was late. If often, see whether the phone ignores Record-Route.", "偶尔出现不用处理：只是迟到的重传。经常出现时，检查话机是否忽略 Record-Route。"]
        ["roost was restarted in the middle of the call.", "呼叫进行中 roost 重启过。"],
    701 "no-response"
        ["Neither a phone nor a next hop answered at all within `tm.fr_timeout` (408).", "`tm.fr_timeout` 内话机或下一跳没有任何应答（408）。"]
        ["Check that the phone is on and its network works; behind NAT let roost ping it (`nathelper.natping_interval`); for a far gateway that is slow raise `tm.fr_timeout`.", "检查话机是否开机、网络是否正常；话机在 NAT 之后时启用探测（`nathelper.natping_interval`）；远端网关较慢时调大 `tm.fr_timeout`。"]
        ["The phone is gone, and its registration has not expired yet.", "话机已离线，注册还没有过期。"],
    702 "rang-out"
        ["The phone rang for `tm.fr_inv_timeout`, and nobody took the call (408).", "话机振铃超过 `tm.fr_inv_timeout`，无人接听（408）。"]
        ["Nothing; to let it ring longer raise `tm.fr_inv_timeout`.", "不用处理；想让它振铃更久，调大 `tm.fr_inv_timeout`。"]
        ["", ""],
    703 "not-sent"
        ["The call could not be sent to the phone or the next hop over the network (477).", "网络上无法把呼叫送到话机或下一跳（477）。"]
        ["Check its address with `roost ul show {callee}` or `roost ds list`, then the route and the firewall to it.", "用 `roost ul show {callee}` 或 `roost ds list` 查看地址，再检查到那里的网络路由和防火墙。"]
        ["", ""],
    704 "connection-gone"
        ["The phone's TCP, TLS or WebSocket connection is lost (480).", "话机的 TCP、TLS 或 WebSocket 连接已断（480）。"]
        ["Wait until the phone registers again; a shorter `registrar.max_expires` makes that sooner; see why its connection breaks.", "等话机重新注册；调短 `registrar.max_expires` 可更快恢复；检查连接为什么会断。"]
        ["A browser's page was closed, or a laptop sleeps.", "浏览器页面已关闭，或笔记本电脑休眠。"],
    705 "callee-busy"
        ["The callee was busy (486 or 600).", "被叫忙（486 或 600）。"]
        ["Nothing; if its line is free, look at `roost agents`, `roost calls` and Do Not Disturb in the phone.", "不用处理；如果线路空闲，查看 `roost agents`、`roost calls` 和话机的免打扰设置。"]
        ["", ""],
    706 "callee-declined"
        ["The callee's phone declined the call (603 or 403).", "被叫的话机拒接（603 或 403）。"]
        ["Nothing, if somebody pressed the button; else look for Do Not Disturb, a block list and allowed servers in the phone.", "如果是人按了拒接就不用处理；否则检查话机的免打扰、黑名单和允许的服务器设置。"]
        ["", ""],
    707 "callee-offline"
        ["The called extension is not registered (404 or 480).", "被叫分机没有注册（404 或 480）。"]
        ["Look at `roost ul show {callee}`, and see why its phone does not register; for voicemail make a `[[route]]` with `on = [\"offline\"]`.", "查看 `roost ul show {callee}`，检查话机为什么没有注册；要转语音信箱，设置 `on = [\"offline\"]` 的 `[[route]]`。"]
        ["", ""],
    708 "no-such-extension"
        ["No extension has the called number, and no `[[route]]` takes it (404).", "所拨号码不是分机，也没有 `[[route]]` 适用（404）。"]
        ["Look at `roost user list` and `roost config show`; add the extension with `roost user add {callee} …`, or a `[[route]]` for the number.", "查看 `roost user list` 和 `roost config show`；用 `roost user add {callee} …` 添加分机，或为该号码设置 `[[route]]`。"]
        ["The number was dialled wrongly, or lacks its prefix.", "号码拨错了，或漏拨前缀。"],
    709 "gave-up"
        ["The caller hung up while it rang (487).", "振铃时主叫挂断（487）。"]
        ["Nothing; if callers give up often, see how long the callees ring.", "不用处理；如果经常这样，检查被叫要振铃多久。"]
        ["", ""],
    710 "method-mask"
        ["The callee is registered, but its phone's Allow header does not list INVITE.", "被叫已注册，但其话机的 Allow 不含 INVITE。"]
        ["Look at `Methods` in `roost ul show {callee}`; let this phone take calls, or update it.", "查看 `roost ul show {callee}` 中的 `Methods`；在话机上允许来电，或升级固件。"]
        ["The binding is that of a program that only takes messages.", "注册的是只收消息的程序。"],
    711 "hop-down"
        ["A next hop does not answer pings or calls, and is not used until it answers again.", "某个下一跳不应答探测或呼叫，重新应答之前不再选用。"]
        ["Look at `roost ds list`; check that server and the network to it, and that it answers OPTIONS with a code below 500 other than 408.", "查看 `roost ds list`；检查那台服务器和通往它的网络，以及它对 OPTIONS 的应答是否低于 500 且不是 408。"]
        ["The other server's firewall does not know roost's address.", "对方服务器的防火墙没有放行 roost 的地址。"],
    712 "timeout"
        ["The call lasted longer than `dialog.default_timeout`, or its session was not refreshed in time.", "呼叫超过 `dialog.default_timeout`，或会话没有按时刷新。"]
        ["See whether phones send BYE and refresh their session timers; for longer calls raise `dialog.default_timeout`.", "检查话机是否发送 BYE、是否刷新会话定时器；需要更长的通话时调大 `dialog.default_timeout`。"]
        ["A BYE was lost, and the call was over long before.", "丢失了 BYE，通话其实早已结束。"],
    713 "caller-gone"
        ["Asked twice (`dialog.options_ping_interval`), the caller's side did not know of the call any more or did not answer, and the call was ended.", "两次询问（`dialog.options_ping_interval`），主叫一方都不认得这通呼叫或不应答，呼叫被结束。"]
        ["Check the caller's phone and its network; if people were still talking, update the phone or raise `dialog.options_ping_interval`.", "检查主叫的话机和网络；如果当时还在通话，升级话机固件或调大 `dialog.options_ping_interval`。"]
        ["The phone lost power or its network, or a BYE was lost.", "话机断电、断网，或丢失了 BYE。"],
    714 "callee-gone"
        ["Asked twice (`dialog.options_ping_interval`), the callee's side did not know of the call any more or did not answer, and the call was ended.", "两次询问（`dialog.options_ping_interval`），被叫一方都不认得这通呼叫或不应答，呼叫被结束。"]
        ["Check the callee's phone and its network; if people were still talking, update the phone or raise `dialog.options_ping_interval`.", "检查被叫的话机和网络；如果当时还在通话，升级话机固件或调大 `dialog.options_ping_interval`。"]
        ["The phone lost power or its network, or a BYE was lost.", "话机断电、断网，或丢失了 BYE。"],
    715 "ended-by-operator"
        ["An operator or a program ended the call (`roost calls end`, the API or MI).", "管理员或程序结束了呼叫（`roost calls end`、API 或 MI）。"]
        ["Nothing.", "不用处理。"]
        ["", ""],
    716 "call-failed"
        ["The callee's side answered with an error that has no entry of its own; its status code is beside it.", "被叫一方回了一个没有单独条目的错误，状态码写在旁边。"]
        ["`roost trace --last {extension}` shows the messages; RFC 3261 section 21 says what the code means.", "`roost trace --last {extension}` 显示消息；RFC 3261 第 21 节说明各状态码的含义。"]
        ["", ""],
    717 "callee-unavailable"
        ["The callee's side answered 480: the call was rejected at the phone, it is set to do not disturb, or nobody is logged in there.", "被叫一方回了 480：来电在话机上被拒绝、话机设了免打扰，或那边没有人登录。"]
        ["Ask the callee; look at do not disturb and forwarding in the phone.", "询问被叫；检查话机上的免打扰和呼叫转移设置。"]
        ["A media server or gateway that could not reach its own subscriber.", "媒体服务器或网关找不到它自己的用户。"],
    801 "expired"
        ["The phone did not refresh its registration in time.", "话机没有按时刷新注册。"]
        ["Check that the phone is on and its network works; see in the log whether its last REGISTER was refused.", "检查话机是否开机、网络是否正常；在日志中查看它最后的 REGISTER 是否被拒绝。"]
        ["The phone waits longer than it was granted.", "话机的刷新间隔超过了给它的时长。"],
    802 "unregistered"
        ["The phone has unregistered.", "话机已注销。"]
        ["Nothing; if nobody did that, see whether the phone was restarted or its settings were changed.", "不用处理；如果没有人操作，检查话机是否重启过、设置是否改过。"]
        ["", ""],
    803 "removed"
        ["An operator or a program removed the binding (`roost ul rm`, `roost user rm`, MI).", "管理员或程序删除了绑定（`roost ul rm`、`roost user rm`、MI）。"]
        ["Nothing; a phone whose extension still exists is back when it registers again.", "不用处理；分机还在的话，话机下次注册时恢复。"]
        ["The phone did not answer pings, and `nathelper.remove_on_timeout` is true.", "话机不应答探测，且 `nathelper.remove_on_timeout` 为 true。"],
    804 "flow-lost"
        ["The phone's connection is gone, and only the phone can make it again.", "话机的连接已断，只有话机自己才能重新建立。"]
        ["Wait until it registers again; a shorter `registrar.max_expires` makes that sooner; see why its connection breaks.", "等它重新注册；调短 `registrar.max_expires` 可更快恢复；检查连接为什么会断。"]
        ["A browser's page was closed, or a router forgets silent connections.", "浏览器页面已关闭，或路由器忘记了静默的连接。"],
    805 "pings-lost"
        ["The phone has not answered `nathelper.max_pings_lost` pings in a row.", "话机连续 `nathelper.max_pings_lost` 次不应答探测。"]
        ["Check the phone and its network; if its router forgets the way, lower `nathelper.natping_interval`.", "检查话机和网络；如果是路由器忘记了映射，调小 `nathelper.natping_interval`。"]
        ["A phone that never answers OPTIONS: set another `nathelper.sipping_method`.", "话机从不应答 OPTIONS：换一种 `nathelper.sipping_method`。"],
    806 "not-stored"
        ["The database did not take a change of the registration, and the phone was told so (500).", "数据库没有接受注册的变更，话机得到 500。"]
        ["Read roost's log for the database's error; `roost db check` says whether it can be reached; check free disk space and the rights on it.", "在 roost 日志中查看数据库的错误；用 `roost db check` 检查能否访问；检查磁盘空间和数据库的权限。"]
        ["", ""],
    807 "replaced"
        ["Another registration of the same extension took its place.", "同一分机的另一个注册取代了它。"]
        ["For several phones of one extension raise `registrar.max_contacts`; else nothing.", "一个分机要用多台话机时，调大 `registrar.max_contacts`；否则不用处理。"]
        ["The same phone has registered anew with another Contact, such as after a restart.", "同一台话机用另一个 Contact 重新注册，例如重启之后。"],
    808 "moved"
        ["The phone registers from another address than before.", "话机注册的来源地址与之前不同。"]
        ["Nothing; if it happens often, see why its network or router changes the address.", "不用处理；如果经常发生，检查网络或路由器为什么更换地址。"]
        ["Another phone uses the same extension and password.", "另一台话机在用同一分机和密码。"],
    901 "never-seen"
        ["No REGISTER of this extension has come since roost was started.", "roost 启动以来没有收到该分机的 REGISTER。"]
        ["Check server, port and transport in the phone, and the firewall; `roost log-level debug --only {extension}` shows what comes.", "检查话机上的服务器、端口和传输方式，以及防火墙；`roost log-level debug --only {extension}` 显示收到的请求。"]
        ["The phone registers under another name or to another server.", "话机用别的名字注册，或注册到别的服务器。"],
    902 "fine"
        ["Everything is right with this extension.", "该分机一切正常。"]
        ["Nothing.", "不用处理。"]
        ["", ""],
    903 "other-domain"
        ["The phone registers to another domain than its extension's.", "话机注册的域不是该分机的域。"]
        ["Enter the extension's domain in the phone (`roost user list`), or add the extension there: `roost user add {extension} … --domain a.example`.", "在话机上填写该分机的域（见 `roost user list`），或在那个域添加分机：`roost user add {extension} … --domain a.example`。"]
        ["", ""],
    904 "two-phones"
        ["Two phones fight for one extension, and each is refused as Occupied in turn.", "两台话机争用一个分机，轮流因 Occupied 被拒绝。"]
        ["Give one of them an extension of its own, or set `registrar.exclusive = \"off\"` and raise `registrar.max_contacts`.", "给其中一台另分一个分机；或设置 `registrar.exclusive = \"off\"`，并调大 `registrar.max_contacts`。"]
        ["One phone whose address alternates between two networks.", "同一台话机的地址在两个网络之间切换。"],
    905 "refreshes-late"
        ["The phone refreshes its registration later than it was granted, and is out of reach in between.", "话机刷新注册晚于给它的时长，其间无法呼叫。"]
        ["Set a shorter registration time in the phone, or raise `registrar.max_expires` above the phone's.", "在话机上调短注册时长，或把 `registrar.max_expires` 调到大于话机的时长。"]
        ["REGISTERs are lost on the way, and only a repeated one arrives.", "REGISTER 在途中丢失，重发的才到。"],
    906 "similar-name"
        ["There is no extension of this name, but one of a similar name.", "没有这个分机，但有一个名字相近的。"]
        ["Compare the name in the phone with `roost user list`.", "核对话机上的名字与 `roost user list`。"]
        ["Upper and lower case count, unless `registrar.case_sensitive = false`.", "区分大小写，除非 `registrar.case_sensitive = false`。"],
    907 "database-away"
        ["The database cannot be reached or does not answer.", "数据库无法访问或没有应答。"]
        ["Check that the database server runs, the network to it and `database`; `roost db check` says what is wrong.", "检查数据库服务器是否在运行、通往它的网络以及 `database` 的设置；`roost db check` 会说明问题。"]
        ["With SQLite: the disk is full, or the file's rights are wrong.", "使用 SQLite 时：磁盘已满，或文件权限不对。"],
    908 "refreshes-often"
        ["The phone refreshes its registration much more often than it needs to.", "话机刷新注册的次数远多于需要。"]
        ["Look whether roost's answers reach it: `roost trace {extension}` shows what is sent; look at the firewall and the router.", "检查 roost 的应答能否到达话机：`roost trace {extension}` 显示发出的报文；检查防火墙和路由器。"]
        ["The phone is set to keep the way through its NAT open in this way.", "话机用这种方式保持 NAT 映射。"],
    909 "in-progress"
        ["The call is in progress.", "呼叫正在进行。"]
        ["Nothing; `roost calls` lists it, `roost trace --call` shows its messages.", "不用处理；`roost calls` 列出它，`roost trace --call` 显示其报文。"]
        ["", ""],
}
