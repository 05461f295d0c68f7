// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DealtImport, Key, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {Server, ServerKind, ServerStatus} from "../../../contracts/interfaces/IServerRegistry.sol";
import {KeyRegistry} from "../../../contracts/registry/KeyRegistry.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {Campaign} from "../utils/Campaign.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";

/// @notice An operator that is a contract: it refuses ether, or re-enters while it is paid, as the handler sets it.
contract HostileOperator {
    ServerRegistry private immutable SERVERS;
    bool private refuses;

    constructor(ServerRegistry servers) {
        SERVERS = servers;
    }

    function setRefuses(bool refuses_) external {
        refuses = refuses_;
    }

    receive() external payable {
        require(!refuses, "refused");
        uint32 count = SERVERS.serverCount();
        for (uint32 id = 1; id <= count; ++id) {
            try SERVERS.withdrawBond(id) {} catch {}
            try SERVERS.announceLeave(id) {} catch {}
        }
        try SERVERS.addBond{value: msg.value / 2}(count) {} catch {}
    }
}

/// @notice Everything anybody can do to servers and keys, in any order.
contract BondHandler is RegistryFixture {
    uint256 private constant MAX_SERVERS = 14;

    address[] private operators;
    HostileOperator[2] private hostile;
    /// Ceremonies by key id, encoded.
    mapping(uint256 keyId => bytes) private ceremonies;
    /// What each server and key looked like after the last action.
    mapping(uint32 id => Server) private last;
    mapping(uint256 keyId => Key) private lastKey;
    /// Hash of the group key of each key that became Live.
    mapping(uint256 keyId => bytes32) private groupKeyHash;
    /// Signing roots that were ordered, by key.
    mapping(uint256 keyId => bytes32[]) private ordered;
    /// Owner and number of each dealt key after the last action.
    mapping(uint256 keyId => address) private dealtOwner;
    mapping(uint256 keyId => uint64) private dealtNumber;

    /// Of all slashes, in wei: what left the bonds, what reporters got of it, and what they withdrew.
    uint256 public slashed;
    uint256 public credited;
    uint256 public paid;

    /// The first of: a bond went out while a seat was held, before the end of unbonding, or to anybody but the operator; a
    /// server or a key left its edges; a parameter did what it must not.
    string public violation;
    /// Whether the action was a slash, the one thing beside `withdrawBond` by which a bond shrinks.
    bool private slashing;
    /// How often each action succeeded.
    mapping(bytes4 action => uint256) public successes;

    constructor() {
        deployRegistries();
        hostile = [new HostileOperator(servers), new HostileOperator(servers)];
        operators = [makeAddr("a"), makeAddr("b"), makeAddr("c"), makeAddr("d"), makeAddr("e")];
        operators.push(address(hostile[0]));
        operators.push(address(hostile[1]));
        for (uint256 i; i < operators.length; ++i) {
            addServer(operators[i], 2 ether);
        }
        _look();
    }

    /// @dev An action that reverts is undone with its count. One that succeeds is looked at.
    modifier action() {
        _;
        ++successes[msg.sig];
        _look();
    }

    // ----------------------------------------------------------------------------------------------- servers

    function register(uint256 who, uint256 bond) external action {
        require(servers.serverCount() < MAX_SERVERS, "enough");
        registerServer(
            operators[who % operators.length], ServerKind(bond % 2), bound(bond, 0.5 ether, 3 ether)
        );
    }

    function addBond(uint32 id, uint256 amount) external action {
        amount = bound(amount, 0, 2 ether);
        vm.deal(address(this), amount);
        servers.addBond{value: amount}(_id(id));
    }

    function approve(uint32 id) external action {
        servers.approve(_serverIn(id, id % 2 == 0 ? ServerStatus.Registered : ServerStatus.Suspended));
    }

    function suspend(uint32 id) external action {
        // Seldom, or too few servers stay Active.
        require(id % 2 == 0, "not now");
        servers.suspend(_serverIn(id / 2, ServerStatus.Active), "test");
    }

    function announceLeave(uint32 id) external action {
        require(id % 4 == 0, "not now");
        id = _id(id / 4);
        vm.prank(servers.server(id).operator);
        servers.announceLeave(id);
    }

    function withdrawBond(uint32 id, bool refuses) external action {
        id = _serverIn(id, ServerStatus.Leaving);
        hostile[0].setRefuses(refuses);
        Server memory before = servers.server(id);
        uint256 balance = before.operator.balance;
        vm.prank(before.operator);
        servers.withdrawBond(id);
        if (before.seats != 0) violation = "bond paid while a seat was held";
        if (block.timestamp < before.unbondingEnds) violation = "bond paid before unbonding ended";
        if (before.operator.code.length == 0 && before.operator.balance != balance + before.bond) {
            violation = "not the whole bond";
        }
    }

    /// @dev As the Court does for a fault, of whatever server and at whatever time of its life.
    function slash(uint32 id, uint256 who) external action {
        require(id % 4 == 0, "not now");
        id = _id(id / 4);
        Server memory before = servers.server(id);
        uint256 seat = servers.seatBond();
        vm.prank(address(court));
        (, uint256 amount, uint256 bounty) = servers.slash(id, operators[who % operators.length], 0, 0);
        if (amount != (seat < before.bond ? seat : before.bond)) {
            violation = "not what was left of a seat's bond";
        }
        if (before.bond - amount != servers.server(id).bond) violation = "not out of the bond";
        slashed += amount;
        credited += bounty;
        slashing = true;
    }

    /// @dev Contracts that refuse ether or re-enter among them.
    function withdrawBounty(uint256 who) external action {
        address account = operators[who % operators.length];
        for (uint256 i; i < operators.length && servers.bountyOf(account) == 0; ++i) {
            account = operators[i];
        }
        uint256 owed = servers.bountyOf(account);
        vm.prank(account);
        servers.withdrawBounty();
        paid += owed;
    }

    function reinstate(uint32 id) external action {
        for (uint32 i; i < servers.serverCount() && !_canBeReinstated(_id(id)); ++i) {
            ++id;
        }
        servers.reinstate(_id(id), "test");
    }

    function _canBeReinstated(uint32 id) private view returns (bool) {
        Server memory it = servers.server(id);
        return it.lockedOut && it.status < ServerStatus.Leaving;
    }

    /// @notice Sum of the bounties that anybody can withdraw.
    function bountiesOwed() external view returns (uint256 sum) {
        for (uint256 i; i < operators.length; ++i) {
            sum += servers.bountyOf(operators[i]);
        }
    }

    function withdrawBondOfAnother(uint32 id, uint256 who) external {
        id = _id(id);
        address caller = operators[who % operators.length];
        if (caller == servers.server(id).operator) return;
        vm.prank(caller);
        servers.withdrawBond(id);
        violation = "bond paid to a stranger";
    }

    function pass(uint256 time) external action {
        // Mostly less than a ceremony takes.
        time = time % 4 == 0 ? bound(time, 1 hours, 40 days) : bound(time, 1 minutes, 2 hours);
        vm.warp(block.timestamp + time);
        vm.roll(block.number + time / 12);
    }

    // --------------------------------------------------------------------------------------------- governance

    /// @dev Now and then outside the bounds.
    function setBondParameters(uint256 minBond, uint256 seatBond) external action {
        servers.setBondParameters(
            uint96(minBond % 8 == 0 ? bound(minBond, 0, 200 ether) : bound(minBond, 0.1 ether, 2 ether)),
            uint96(seatBond % 8 == 0 ? bound(seatBond, 0, 200 ether) : bound(seatBond, 0.1 ether, 1 ether))
        );
    }

    function setCeremonyWindow(uint256 window) external action {
        window = window % 8 == 0 ? bound(window, 0, 20 days) : bound(window, 10 minutes, 7 days);
        keys.setCeremonyWindow(uint48(window));
    }

    // -------------------------------------------------------------------------------------------------- keys

    function requestKey() external action {
        Ceremony memory c = request(3, 4);
        ceremonies[c.keyId] = abi.encode(c);
    }

    function drawKey(uint256 which, bytes32 randao) external action {
        Ceremony memory c = _ceremonyIn(which, KeyState.Requested);
        reachSeed(c, randao);
        draw(c);
        ceremonies[c.keyId] = abi.encode(c);
    }

    /// @dev Now and then with a polynomial that another key may have had.
    function finaliseKey(uint256 which) external action {
        Ceremony memory c = _ceremonyIn(which, KeyState.Drawn);
        runDkg(c, which % 8 == 0 ? 1 + which % keys.keyCount() : c.keyId);
        finalise(c);
        groupKeyHash[c.keyId] = keccak256(c.keySet.groupKey);
        ceremonies[c.keyId] = abi.encode(c);
    }

    function restartKey(uint256 which, bool late) external action {
        Ceremony memory c = _ceremonyIn(which, which % 3 == 0 ? KeyState.Requested : KeyState.Drawn);
        Key memory key = keys.key(c.keyId);
        bool drawn = key.state == KeyState.Drawn;
        if (late && drawn && block.timestamp <= key.mark) vm.warp(key.mark + 1);
        if (late && !drawn && block.number <= key.mark + 8191) vm.roll(key.mark + 8192);
        uint32[] memory members = drawn ? c.committee : c.kept;
        uint32[] memory kept = _activeOf(members);
        keys.restart(c.keyId, members, drawn ? bytes32(0) : keccak256(c.activeSet));
        if (keys.key(c.keyId).state == KeyState.Requested) {
            c.kept = kept;
            c.activeSet = servers.activeSet(ServerKind.Online);
        }
        ceremonies[c.keyId] = abi.encode(c);
    }

    function order(uint256 which, bytes32 signingRoot) external action {
        uint256 keyId = _ceremonyIn(which, KeyState.Live).keyId;
        consumer.order(keyId, signingRoot);
        ordered[keyId].push(signingRoot);
    }

    function retireKey(uint256 which, bool burned) external action {
        require(which % 2 == 0, "not now");
        consumer.retire(_ceremonyIn(which / 2, which % 6 == 0 ? KeyState.Live : KeyState.Drawn).keyId, burned);
    }

    function freeSeats(uint256 which, bool late) external action {
        Ceremony memory c = _ceremonyIn(which, which % 2 == 0 ? KeyState.Retired : KeyState.Burned);
        uint48 mark = keys.key(c.keyId).mark;
        if (late && block.timestamp < mark) vm.warp(mark);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
    }

    function freeSeatsOfUnfinished(uint256 which, bool wasDrawn) external action {
        Ceremony memory c = _ceremonyIn(which, KeyState.Retired);
        if (wasDrawn) keys.freeSeatsOfUnfinished(c.keyId, c.committee, 0);
        else keys.freeSeatsOfUnfinished(c.keyId, c.kept, keccak256(c.activeSet));
    }

    // -------------------------------------------------------------------------------------------- dealt keys

    /// @dev To the first Active servers; now and then with a polynomial that another key may have had.
    function importDealt(uint256 who, uint256 which) external action {
        address owner = operators[who % operators.length];
        Ceremony memory c;
        c.keyId = keys.keyCount() + 1;
        c.committee = new uint32[](4);
        uint256 found;
        for (uint32 id = 1; id <= servers.serverCount() && found < 4; ++id) {
            if (servers.isActive(id) && servers.server(id).kind == ServerKind.Online) {
                c.committee[found++] = id;
            }
        }
        DealtImport memory dealt;
        (dealt, c.keySet) = dealKey(owner, 3, c.committee, which % 8 == 0 ? 1 + which % c.keyId : c.keyId);
        c.signers = signersOf(c.committee);
        vm.prank(owner);
        keys.importDealt(dealt);
        groupKeyHash[c.keyId] = keccak256(c.keySet.groupKey);
        ceremonies[c.keyId] = abi.encode(c);
    }

    function setDutyKey(uint256 which, address dutyKey) external action {
        uint256 keyId = _dealtKey(which);
        vm.prank(dealtOwner[keyId]);
        keys.setDutyKey(keyId, dutyKey);
    }

    function retireDealt(uint256 which) external action {
        require(which % 2 == 0, "not now");
        uint256 keyId = _dealtKey(which / 2);
        vm.prank(dealtOwner[keyId]);
        keys.retireDealt(keyId);
    }

    /// @dev Its owner, or a consumer, or nobody.
    function orderOfDealt(uint256 which, uint256 who, bytes32 signingRoot) external {
        uint256 keyId = _dealtKey(which);
        address[3] memory callers = [dealtOwner[keyId], address(consumer), makeAddr("stranger")];
        vm.prank(callers[who % 3]);
        if (who % 2 == 0) keys.order(keyId, signingRoot);
        else keys.retire(keyId, false);
        violation = "a dealt key obeyed a consumer";
    }

    function setDutyKeyOfAnother(uint256 which, uint256 who) external {
        uint256 keyId = _dealtKey(which);
        address caller = operators[who % operators.length];
        if (caller == dealtOwner[keyId]) return;
        vm.prank(caller);
        if (who % 2 == 0) keys.setDutyKey(keyId, caller);
        else keys.retireDealt(keyId);
        violation = "a dealt key obeyed a stranger";
    }

    // ------------------------------------------------------------------------------------------ what is asked

    function registry() external view returns (ServerRegistry) {
        return servers;
    }

    function keyRegistry() external view returns (KeyRegistry) {
        return keys;
    }

    /// @notice Id of a key whose entry under its group key, or whose orders, are not what they were; 0 for none.
    function forgottenKey() external view returns (uint256) {
        for (uint256 keyId = 1; keyId <= keys.keyCount(); ++keyId) {
            bytes32 hash = groupKeyHash[keyId];
            if (hash != 0 && keys.keyOfGroupKey(hash) != keyId) return keyId;
            for (uint256 i; i < ordered[keyId].length; ++i) {
                if (!keys.isOrdered(keyId, ordered[keyId][i])) return keyId;
            }
        }
        return 0;
    }

    /// @notice Seats that keys hold, by what each key is: the other side of the servers' own counts.
    function seatsOfKeys() external view returns (uint256[] memory seats) {
        seats = new uint256[](servers.serverCount() + 1);
        for (uint256 keyId = 1; keyId <= keys.keyCount(); ++keyId) {
            if (keys.key(keyId).commitment == 0) continue;
            Ceremony memory c = abi.decode(ceremonies[keyId], (Ceremony));
            uint32[] memory seated = _holdsDraw(c) ? c.committee : c.kept;
            for (uint256 i; i < seated.length; ++i) {
                ++seats[seated[i]];
            }
        }
    }

    // ---------------------------------------------------------------------------------------------- internal

    /// @dev Whether the seats of the key are those of its committee (it was drawn, and not restarted into a request).
    function _holdsDraw(Ceremony memory c) private view returns (bool) {
        return keys.key(c.keyId).commitment != keccak256(abi.encode(keccak256(c.activeSet), c.kept));
    }

    /// @dev Of a key in this state if there is one, three times of four; else of any.
    function _ceremonyIn(uint256 which, KeyState state) private view returns (Ceremony memory) {
        uint256 count = keys.keyCount();
        uint256 keyId = 1 + which % count;
        for (uint256 i; i < count && which % 4 != 3; ++i) {
            uint256 candidate = 1 + (which % count + i) % count;
            if (keys.key(candidate).state != state || keys.key(candidate).commitment == 0) continue;
            keyId = candidate;
            break;
        }
        return abi.decode(ceremonies[keyId], (Ceremony));
    }

    /// @dev A dealt key, one that is still Live if there is one.
    function _dealtKey(uint256 which) private view returns (uint256 found) {
        uint256 count = keys.keyCount();
        for (uint256 i; i < count; ++i) {
            uint256 candidate = 1 + (which % count + i) % count;
            if (dealtOwner[candidate] == address(0)) continue;
            if (found == 0 || keys.key(candidate).state == KeyState.Live) found = candidate;
            if (keys.key(candidate).state == KeyState.Live) break;
        }
        require(found != 0, "no dealt key");
    }

    function _id(uint32 id) private view returns (uint32) {
        return 1 + id % servers.serverCount();
    }

    /// @dev A server in this status if there is one, else any.
    function _serverIn(uint32 seed, ServerStatus status) private view returns (uint32) {
        uint32 count = servers.serverCount();
        for (uint32 i; i < count; ++i) {
            uint32 candidate = 1 + (seed % count + i) % count;
            if (servers.server(candidate).status == status) return candidate;
        }
        return _id(seed);
    }

    function _activeOf(uint32[] memory members) private view returns (uint32[] memory active) {
        active = new uint32[](members.length);
        uint256 count;
        for (uint256 i; i < members.length; ++i) {
            if (servers.isActive(members[i])) active[count++] = members[i];
        }
        assembly {
            mstore(active, count)
        }
    }

    /// @dev Compares each server with what it was before the action. One action moves a server along one edge at most,
    /// except that a paid operator that re-enters may announce that its other servers leave.
    function _look() private {
        uint32 count = servers.serverCount();
        for (uint32 id = 1; id <= count; ++id) {
            Server memory now_ = servers.server(id);
            Server storage before = last[id];
            if (before.status != now_.status && !_isEdge(before.status, now_.status)) {
                violation = "status left its edges";
            }
            // Governance may raise `seatBond` over what a bond covers, but then the server gets no further seat.
            if (now_.seats > before.seats && now_.seats * uint256(servers.seatBond()) > now_.bond) {
                violation = "a seat that no bond covers";
            }
            if (before.status == ServerStatus.None && now_.bond < servers.minBond()) {
                violation = "a bond below the minimum";
            }
            if (now_.seats > before.seats && now_.lockedOut) {
                violation = "a seat of a server that is locked out";
            }
            if (now_.bond < before.bond && now_.status != ServerStatus.Left && !slashing) {
                violation = "bond shrank";
            }
            if (before.status != ServerStatus.None && now_.signer != before.signer) {
                violation = "signer changed";
            }
            if (before.status != ServerStatus.None && now_.operator != before.operator) {
                violation = "operator changed";
            }
            last[id] = now_;
        }
        slashing = false;
        for (uint256 keyId = 1; keyId <= keys.keyCount(); ++keyId) {
            Key memory key = keys.key(keyId);
            if (!_isKeyMove(lastKey[keyId], key)) violation = "a key left its edges";
            lastKey[keyId] = key;
            (address owner, uint64 number,) = keys.dealtKey(keyId);
            if ((owner != address(0)) != (key.consumer == address(0))) violation = "an owner and a consumer";
            if (dealtOwner[keyId] != address(0) && owner != dealtOwner[keyId]) violation = "owner changed";
            if (number < dealtNumber[keyId] || number > dealtNumber[keyId] + 1) violation = "number jumped";
            (dealtOwner[keyId], dealtNumber[keyId]) = (owner, number);
        }
    }

    /// @dev K1 and K2: one edge at most, each with what it may change.
    function _isKeyMove(Key memory from, Key memory to) private view returns (bool) {
        if (keccak256(abi.encode(from)) == keccak256(abi.encode(to))) return true;
        if (from.state == KeyState.None) {
            bool dealt = to.state == KeyState.Live && to.consumer == address(0) && to.mark == block.timestamp;
            return (dealt || to.state == KeyState.Requested) && to.attempt == 0;
        }
        bool same = from.consumer == to.consumer && from.kind == to.kind && from.threshold == to.threshold
            && from.members == to.members;
        if (!same) return false;
        bool again = to.attempt == from.attempt + 1;
        if (!again && to.attempt != from.attempt) return false;

        bool requested = from.state == KeyState.Requested;
        if (again) {
            bool sameCommittee = !requested && to.state == KeyState.Drawn && to.commitment == from.commitment;
            return
                (requested || from.state == KeyState.Drawn)
                    && (to.state == KeyState.Requested || sameCommittee);
        }
        if (requested) {
            if (to.state == KeyState.Drawn) return to.mark == block.timestamp + keys.ceremonyWindow();
            return to.state == KeyState.Retired && to.commitment == from.commitment;
        }
        if (from.state == KeyState.Drawn) {
            if (to.state == KeyState.Live) return block.timestamp <= from.mark;
            return to.state == KeyState.Retired && to.commitment == from.commitment;
        }
        if (from.state == KeyState.Live) {
            bool burned = to.state == KeyState.Burned && to.consumer != address(0);
            return (to.state == KeyState.Retired || burned) && to.commitment == from.commitment
                && to.mark == block.timestamp + EVIDENCE_WINDOW;
        }
        // Retired and Burned are the end; only the seats come free, in time.
        return
            to.state == from.state && to.mark == from.mark && to.commitment == 0
                && block.timestamp >= from.mark;
    }

    function _isEdge(ServerStatus from, ServerStatus to) private pure returns (bool) {
        if (from == ServerStatus.None) return to == ServerStatus.Registered || to == ServerStatus.Active;
        if (to == ServerStatus.Active) {
            return from == ServerStatus.Registered || from == ServerStatus.Suspended;
        }
        if (to == ServerStatus.Suspended) return from == ServerStatus.Active;
        if (to == ServerStatus.Leaving) return from < ServerStatus.Leaving;
        return from == ServerStatus.Leaving && to == ServerStatus.Left;
    }
}

/// @notice The invariants of sections "Bonds" and "Keys" in docs/invariants.md, asserted by their numbers.
/// forge-config: default.invariant.runs = 64
/// forge-config: default.invariant.depth = 128
contract ServerRegistryInvariantsTest is Campaign {
    BondHandler private handler;
    ServerRegistry private servers;
    KeyRegistry private keys;

    function setUp() public {
        handler = new BondHandler();
        servers = handler.registry();
        keys = handler.keyRegistry();
        bytes4[23] memory actions = _actions();
        // Three more, which must never succeed.
        bytes4[] memory selectors = new bytes4[](26);
        for (uint256 i; i < 23; ++i) {
            selectors[i] = actions[i];
        }
        selectors[23] = BondHandler.withdrawBondOfAnother.selector;
        selectors[24] = BondHandler.orderOfDealt.selector;
        selectors[25] = BondHandler.setDutyKeyOfAnother.selector;
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function _actions() private pure returns (bytes4[23] memory) {
        return [
            BondHandler.register.selector,
            BondHandler.addBond.selector,
            BondHandler.approve.selector,
            BondHandler.suspend.selector,
            BondHandler.announceLeave.selector,
            BondHandler.withdrawBond.selector,
            BondHandler.pass.selector,
            BondHandler.setBondParameters.selector,
            BondHandler.setCeremonyWindow.selector,
            BondHandler.requestKey.selector,
            BondHandler.drawKey.selector,
            BondHandler.finaliseKey.selector,
            BondHandler.restartKey.selector,
            BondHandler.order.selector,
            BondHandler.retireKey.selector,
            BondHandler.freeSeats.selector,
            BondHandler.freeSeatsOfUnfinished.selector,
            BondHandler.importDealt.selector,
            BondHandler.setDutyKey.selector,
            BondHandler.retireDealt.selector,
            BondHandler.slash.selector,
            BondHandler.withdrawBounty.selector,
            BondHandler.reinstate.selector
        ];
    }

    function afterInvariant() public {
        bytes4[23] memory selectors = _actions();
        string[23] memory names = [
            "register",
            "addBond",
            "approve",
            "suspend",
            "announceLeave",
            "withdrawBond",
            "pass",
            "setBondParameters",
            "setCeremonyWindow",
            "requestKey",
            "drawKey",
            "finaliseKey",
            "restartKey",
            "order",
            "retireKey",
            "freeSeats",
            "freeSeatsOfUnfinished",
            "importDealt",
            "setDutyKey",
            "retireDealt",
            "slash",
            "withdrawBounty",
            "reinstate"
        ];
        string[] memory actions = new string[](23);
        uint256[] memory counts = new uint256[](23);
        for (uint256 i; i < 23; ++i) {
            (actions[i], counts[i]) = (names[i], handler.successes(selectors[i]));
        }
        _conclude("registries", 64, actions, counts);
    }

    /// One campaign for all of them; every assertion names its sentence.
    function invariant_B1_to_B6_and_K1_to_K5() public view {
        _B1_the_registry_holds_exactly_the_bonds_bounties_and_what_was_burned();
        assertEq(handler.violation(), "", "B2, B4, B6, K1, K2, K5");
        _B3_a_server_that_left_has_neither_bond_nor_seat();
        _B4_seats_are_those_of_the_keys();
        _B5_the_active_sets_hold_every_active_server_once();
        _B6_parameters_stay_within_their_bounds();
        assertEq(handler.forgottenKey(), 0, "K3, K4");
    }

    function _B1_the_registry_holds_exactly_the_bonds_bounties_and_what_was_burned() private view {
        uint256 sum;
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            sum += servers.server(id).bond;
        }
        uint256 burned = handler.slashed() - handler.credited();
        uint256 owed = handler.bountiesOwed();
        assertEq(owed + handler.paid(), handler.credited(), "B1: bounties");
        assertEq(address(servers).balance, sum + owed + burned, "B1");
    }

    function _B3_a_server_that_left_has_neither_bond_nor_seat() private view {
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            Server memory it = servers.server(id);
            if (it.status == ServerStatus.Left) assertEq(it.bond + it.seats, 0, "B3");
        }
    }

    function _B4_seats_are_those_of_the_keys() private view {
        uint256[] memory seats = handler.seatsOfKeys();
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            assertEq(servers.server(id).seats, seats[id], "B4");
        }
    }

    function _B5_the_active_sets_hold_every_active_server_once() private view {
        uint256[] memory listed = new uint256[](servers.serverCount() + 1);
        for (uint8 kind; kind < 2; ++kind) {
            bytes memory set = servers.activeSet(ServerKind(kind));
            for (uint256 i; i < set.length; i += 4) {
                uint32 id;
                assembly {
                    id := shr(224, mload(add(add(set, 0x20), i)))
                }
                assertEq(uint8(servers.server(id).kind), kind, "B5: kind");
                ++listed[id];
            }
        }
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            // One that is locked out is passed over by the draw, not taken off the list.
            bool active = servers.server(id).status == ServerStatus.Active;
            assertEq(listed[id], active ? 1 : 0, "B5");
            assertEq(servers.isActive(id), active && !servers.server(id).lockedOut, "B5: locked out");
        }
    }

    function _B6_parameters_stay_within_their_bounds() private view {
        assertTrue(servers.minBond() >= 0.1 ether && servers.minBond() <= 100 ether, "B6: minBond");
        assertTrue(servers.seatBond() >= 0.1 ether && servers.seatBond() <= 100 ether, "B6: seatBond");
        uint48 window = keys.ceremonyWindow();
        assertTrue(window >= 10 minutes && window <= 7 days, "B6: ceremonyWindow");
    }

    /// @dev Not an invariant of the contract but of this file: a whole life, down to the last bond.
    function test_TheHandlerReachesPaidBondsAndFreedSeats() public {
        handler.requestKey();
        handler.drawKey(0, "randao");
        handler.finaliseKey(1);
        handler.order(0, "root");
        handler.retireKey(0, true);
        for (uint32 id; id < 7; ++id) {
            handler.announceLeave(4 * id);
        }
        handler.pass(40 days);
        handler.freeSeats(1, true);
        for (uint32 id; id < 7; ++id) {
            handler.withdrawBond(id, false);
        }
        assertEq(handler.successes(BondHandler.withdrawBond.selector), 7);
        assertEq(address(servers).balance, 0);
        invariant_B1_to_B6_and_K1_to_K5();
    }
}
