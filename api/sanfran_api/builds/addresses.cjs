'use strict';
// Loaded into npm before anything else (see npm.py): it opens no connection to an internal address, whatever registries, locks,
// redirects and names of an upload lead to. npm itself is ours and runs nothing of an upload, so this is where it asks.

const dns = require('node:dns');
const net = require('node:net');

// "host" or "host port": what the service's operator has named.
const named = new Set(JSON.parse(process.env.SANFRAN_BUILD_HOSTS));

// RFC 6890 and what came later: none of them is a place on the internet.
const internal = new net.BlockList();
for (const range of [
  '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24',
  '192.168.0.0/16', '198.18.0.0/15', '224.0.0.0/4', '240.0.0.0/4',
  '::/127', '64:ff9b:1::/48', 'fc00::/7', 'fe80::/10', 'fec0::/10', 'ff00::/8',
]) {
  const [address, bits] = range.split('/');
  internal.addSubnet(address, Number(bits), address.includes(':') ? 'ipv6' : 'ipv4');
}

function isInternal(address) {
  return internal.check(address, net.isIPv6(address) ? 'ipv6' : 'ipv4');
}

function refusal(host, address) {
  const which = host === address ? host : `${host} (${address})`;
  const text = `${which} is an internal address, which builds may not reach; the service's --build-hosts names those that they may`;
  return Object.assign(new Error(text), { code: 'EINTERNAL' });
}

function guarded(lookup) {
  return (name, options, done) =>
    lookup(name, options, (error, found, family) => {
      const addresses = Array.isArray(found) ? found.map((one) => one.address) : [found];
      const wrong = error ? undefined : addresses.find(isInternal);
      if (wrong !== undefined) done(refusal(name, wrong));
      else done(error, found, family);
    });
}

const { connect } = net.Socket.prototype;
net.Socket.prototype.connect = function (...args) {
  // Node hands on (options, callback) as an array that it has marked; people may call it with a port and a host.
  const given = Array.isArray(args[0]) ? args[0] : args;
  if (typeof given[0] !== 'object') given.splice(0, typeof given[1] === 'string' ? 2 : 1, { port: given[0], host: given[1] });
  const host = given[0].host || 'localhost';
  if (!named.has(host) && !named.has(`${host} ${given[0].port}`)) {
    if (net.isIP(host) && isInternal(host)) return this.destroy(refusal(host, host));
    given[0] = { ...given[0], lookup: guarded(given[0].lookup ?? dns.lookup) };
  }
  return connect.apply(this, args);
};
