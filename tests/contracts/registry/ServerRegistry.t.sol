// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    IServerRegistry,
    Server,
    ServerKind,
    ServerStatus
} from "../../../contracts/interfaces/IServerRegistry.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";
import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @notice An operator that refuses ether.
contract RefusingOperator {
    function register(ServerRegistry servers, address signer, bytes calldata proof)
        external
        payable
        returns (uint32)
    {
        return servers.register{value: msg.value}(signer, "tls", ServerKind.Online, "https://x", proof);
    }

    function leave(ServerRegistry servers, uint32 id) external {
        servers.announceLeave(id);
    }

    function withdraw(ServerRegistry servers, uint32 id) external {
        servers.withdrawBond(id);
    }
}

/// @notice An operator that asks for its bond again while it is being paid.
contract ReenteringOperator is RefusingOperator {
    ServerRegistry private target;
    uint32 private id;
    uint256 public attempts;

    function arm(ServerRegistry servers, uint32 id_) external {
        (target, id) = (servers, id_);
    }

    receive() external payable {
        ++attempts;
        try target.withdrawBond(id) {} catch {}
    }
}

/// @notice Registration, bonds, statuses, the active set.
contract ServerRegistryTest is RegistryFixture {
    uint256 private constant SECRET = 0xa11ce;
    address private operator = makeAddr("operator");

    function setUp() public {
        deployRegistries();
        vm.deal(operator, 1_000 ether);
    }

    // ---------------------------------------------------------------------------------------------- register

    function testFuzz_Register_KeepsWhatWasGiven(uint96 bond, bytes32 tls, uint8 kindSeed, uint256 secret)
        public
    {
        bond = uint96(bound(bond, MIN_BOND, 900 ether));
        secret = bound(secret, 1, 1e70);
        vm.assume(tls != 0);
        ServerKind kind = ServerKind(kindSeed % 2);
        address signer = vm.addr(secret);
        bytes memory proof = signerProof(secret, operator);

        vm.expectEmit(address(servers));
        emit IServerRegistry.ServerRegistered(1, operator, signer, kind, tls, "https://a:1", bond);
        vm.prank(operator);
        uint32 id = servers.register{value: bond}(signer, tls, kind, "https://a:1", proof);

        assertEq(id, 1);
        assertEq(servers.serverCount(), 1);
        assertEq(servers.serverOfSigner(signer), 1);
        Server memory it = servers.server(1);
        assertEq(it.signer, signer);
        assertEq(uint8(it.status), uint8(ServerStatus.Registered));
        assertEq(uint8(it.kind), uint8(kind));
        assertEq(it.seats, 0);
        assertEq(it.unbondingEnds, 0);
        assertEq(it.operator, operator);
        assertEq(it.bond, bond);
        assertEq(it.tlsFingerprint, tls);
        assertEq(address(servers).balance, bond);
        assertEq(servers.activeSet(kind), "", "not before approval");
    }

    function testFuzz_Register_NeedsTheBond(uint96 bond) public {
        bond = uint96(bound(bond, 0, MIN_BOND - 1));
        _expect(abi.encodeWithSelector(IServerRegistry.BondTooSmall.selector, bond, MIN_BOND));
        servers.register{value: bond}(
            vm.addr(SECRET), "tls", ServerKind.Online, "https://a", signerProof(SECRET, operator)
        );
    }

    function test_Register_EachSignerOnce() public {
        uint32 id = _register(SECRET);
        bytes memory proof = signerProof(SECRET, operator);
        _expect(abi.encodeWithSelector(IServerRegistry.SignerTaken.selector, vm.addr(SECRET), id));
        servers.register{value: 1 ether}(vm.addr(SECRET), "tls", ServerKind.Online, "https://a", proof);
        // Also when the first server is gone: evidence names servers by their signer.
        _leave(id);
        vm.warp(block.timestamp + UNBONDING_DELAY);
        vm.prank(operator);
        servers.withdrawBond(id);
        _expect(abi.encodeWithSelector(IServerRegistry.SignerTaken.selector, vm.addr(SECRET), id));
        servers.register{value: 1 ether}(vm.addr(SECRET), "tls", ServerKind.Online, "https://a", proof);
        _expect(abi.encodeWithSelector(IServerRegistry.SignerTaken.selector, address(0), 0));
        servers.register{value: 1 ether}(address(0), "tls", ServerKind.Online, "https://a", proof);
    }

    function testFuzz_Register_AProofSeenInTheMempoolIsOfNoUseToAnother(address thief) public {
        vm.assume(thief != operator && thief != address(vm));
        bytes memory proof = signerProof(SECRET, operator);
        vm.deal(thief, 1 ether);
        vm.prank(thief);
        vm.expectPartialRevert(IServerRegistry.BadSignerProof.selector);
        servers.register{value: 1 ether}(vm.addr(SECRET), "tls", ServerKind.Online, "https://a", proof);
    }

    function test_Register_RefusesBadProofs() public {
        address signer = vm.addr(SECRET);
        bytes memory proof = signerProof(SECRET, operator);
        // Not by the signer.
        _expect(abi.encodeWithSelector(IServerRegistry.BadSignerProof.selector, signer, vm.addr(SECRET + 1)));
        servers.register{value: 1 ether}(
            signer, "tls", ServerKind.Online, "https://a", _proofBy(SECRET + 1, operator, signer)
        );
        // High s of the same signature.
        (bytes32 r, bytes32 s, uint8 v) = _split(proof);
        s = bytes32(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141 - uint256(s));
        _expect(abi.encodeWithSelector(IServerRegistry.BadSignerProof.selector, signer, address(0)));
        servers.register{value: 1 ether}(
            signer, "tls", ServerKind.Online, "https://a", abi.encodePacked(r, s, 55 - v)
        );
        // Cut and empty.
        proof[64] = 0;
        _expect(abi.encodeWithSelector(IServerRegistry.BadSignerProof.selector, signer, address(0)));
        servers.register{value: 1 ether}(signer, "tls", ServerKind.Online, "https://a", proof);
        _expect(abi.encodeWithSelector(IServerRegistry.BadSignerProof.selector, signer, address(0)));
        servers.register{value: 1 ether}(signer, "tls", ServerKind.Online, "https://a", "");
        // For another chain.
        vm.chainId(5);
        proof = signerProof(SECRET, operator);
        vm.chainId(31_337);
        vm.prank(operator);
        vm.expectPartialRevert(IServerRegistry.BadSignerProof.selector);
        servers.register{value: 1 ether}(signer, "tls", ServerKind.Online, "https://a", proof);
    }

    function test_Register_ChecksEndpointAndCertificate() public {
        bytes memory proof = signerProof(SECRET, operator);
        _expect(abi.encodeWithSelector(IServerRegistry.BadEndpoint.selector, 0));
        servers.register{value: 1 ether}(vm.addr(SECRET), "tls", ServerKind.Online, "", proof);
        _expect(abi.encodeWithSelector(IServerRegistry.BadEndpoint.selector, 254));
        servers.register{value: 1 ether}(
            vm.addr(SECRET), "tls", ServerKind.Online, string(new bytes(254)), proof
        );
        _expect(abi.encodeWithSelector(IServerRegistry.MissingTlsFingerprint.selector));
        servers.register{value: 1 ether}(vm.addr(SECRET), 0, ServerKind.Online, "https://a", proof);
        // An offline server has no certificate.
        vm.prank(operator);
        servers.register{value: 1 ether}(
            vm.addr(SECRET), 0, ServerKind.Offline, string(new bytes(253)), proof
        );
    }

    function test_Register_RefusesABondThatDoesNotFit() public {
        uint256 bond = uint256(type(uint72).max) + 1;
        vm.deal(operator, bond);
        bytes memory proof = signerProof(SECRET, operator);
        _expect(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 72, bond));
        servers.register{value: bond}(vm.addr(SECRET), "tls", ServerKind.Online, "https://a", proof);
    }

    // -------------------------------------------------------------------------------------------------- bond

    function testFuzz_AddBond_ByAnyone(address giver, uint96 amount) public {
        amount = uint96(bound(amount, 0, 500 ether));
        vm.assume(giver.code.length == 0 && giver != address(servers));
        uint32 id = _register(SECRET);
        vm.deal(giver, amount);
        vm.expectEmit(address(servers));
        emit IServerRegistry.BondChanged(id, MIN_BOND + amount);
        vm.prank(giver);
        servers.addBond{value: amount}(id);
        assertEq(servers.server(id).bond, MIN_BOND + amount);
        assertEq(servers.server(id).operator, operator, "the giver gets no right to it");
    }

    function test_AddBond_NotForNobody() public {
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.UnknownServer.selector, 7));
        servers.addBond{value: 1 ether}(7);
        uint32 id = _register(SECRET);
        _leave(id);
        vm.warp(block.timestamp + UNBONDING_DELAY);
        vm.prank(operator);
        servers.withdrawBond(id);
        _expectStatus(id, ServerStatus.Left);
        servers.addBond{value: 1 ether}(id);
    }

    function test_WithdrawBond_AfterTheDelayPaysAllToTheOperator() public {
        uint32 id = _register(SECRET);
        servers.addBond{value: 3 ether}(id);
        servers.approve(id);
        uint40 ends = uint40(block.timestamp) + UNBONDING_DELAY;
        vm.expectEmit(address(servers));
        emit IServerRegistry.ServerStatusChanged(id, ServerStatus.Leaving, "");
        _leave(id);
        assertEq(servers.server(id).unbondingEnds, ends);
        assertEq(servers.activeSet(ServerKind.Online), "");

        vm.warp(ends - 1);
        _expect(abi.encodeWithSelector(IServerRegistry.BondLocked.selector, id, 0, ends));
        servers.withdrawBond(id);

        vm.warp(ends);
        uint256 before = operator.balance;
        vm.expectEmit(address(servers));
        emit IServerRegistry.BondChanged(id, 0);
        vm.expectEmit(address(servers));
        emit IServerRegistry.ServerStatusChanged(id, ServerStatus.Left, "");
        vm.prank(operator);
        servers.withdrawBond(id);
        assertEq(operator.balance, before + 4 ether);
        assertEq(servers.server(id).bond, 0);

        vm.prank(operator);
        _expectStatus(id, ServerStatus.Left);
        servers.withdrawBond(id);
    }

    function test_WithdrawBond_NotWhileASeatIsHeld() public {
        addServers(4);
        Ceremony memory c = makeKey(3, 4, 1);
        uint32 id = c.committee[0];
        address owner = servers.server(id).operator;
        vm.prank(owner);
        servers.announceLeave(id);
        uint40 ends = servers.server(id).unbondingEnds;
        vm.warp(ends + 1_000 days);
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.BondLocked.selector, id, 1, ends));
        servers.withdrawBond(id);

        consumer.retire(c.keyId, false);
        vm.warp(keys.key(c.keyId).mark);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        vm.prank(owner);
        servers.withdrawBond(id);
        assertEq(owner.balance, 10 ether);
    }

    function test_WithdrawBond_OnlyLeavingAndOnlyTheOperator() public {
        uint32 id = _register(SECRET);
        vm.prank(operator);
        _expectStatus(id, ServerStatus.Registered);
        servers.withdrawBond(id);
        _leave(id);
        vm.warp(block.timestamp + UNBONDING_DELAY);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotOperator.selector, id, address(this)));
        servers.withdrawBond(id);
    }

    function test_WithdrawBond_SaysSoWhenTheOperatorRefusesEther() public {
        RefusingOperator refusing = new RefusingOperator();
        uint32 id = refusing.register{value: 2 ether}(
            servers, vm.addr(SECRET), _proofBy(SECRET, address(refusing), vm.addr(SECRET))
        );
        refusing.leave(servers, id);
        vm.warp(block.timestamp + UNBONDING_DELAY);
        vm.expectRevert(
            abi.encodeWithSelector(IServerRegistry.TransferFailed.selector, address(refusing), 2 ether)
        );
        refusing.withdraw(servers, id);
        assertEq(servers.server(id).bond, 2 ether, "nothing is lost");
        assertEq(uint8(servers.server(id).status), uint8(ServerStatus.Leaving));
    }

    function test_WithdrawBond_ReenteringPaysOnce() public {
        addServers(1);
        ReenteringOperator thief = new ReenteringOperator();
        uint32 id = thief.register{value: 2 ether}(
            servers, vm.addr(SECRET), _proofBy(SECRET, address(thief), vm.addr(SECRET))
        );
        thief.arm(servers, id);
        thief.leave(servers, id);
        vm.warp(block.timestamp + UNBONDING_DELAY);
        thief.withdraw(servers, id);
        assertEq(thief.attempts(), 1);
        assertEq(address(thief).balance, 2 ether);
        assertEq(address(servers).balance, 10 ether, "the bond of the other");
    }

    // ------------------------------------------------------------------------------------------------ status

    function test_Approve_SuspendAndApproveAgain() public {
        uint32 id = _register(SECRET);
        vm.expectEmit(address(servers));
        emit IServerRegistry.ServerStatusChanged(id, ServerStatus.Active, "");
        servers.approve(id);
        assertTrue(servers.isActive(id));
        assertEq(servers.activeSet(ServerKind.Online), hex"00000001");

        vm.expectEmit(address(servers));
        emit IServerRegistry.ServerStatusChanged(id, ServerStatus.Suspended, "late answers");
        servers.suspend(id, "late answers");
        assertFalse(servers.isActive(id));
        assertEq(servers.activeSet(ServerKind.Online), "");

        servers.approve(id);
        assertTrue(servers.isActive(id));
    }

    function test_Status_OnlyAlongItsEdges() public {
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.UnknownServer.selector, 1));
        servers.approve(1);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.UnknownServer.selector, 1));
        servers.suspend(1, "");
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.UnknownServer.selector, 1));
        servers.announceLeave(1);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.UnknownServer.selector, 1));
        servers.withdrawBond(1);

        uint32 id = _register(SECRET);
        _expectStatus(id, ServerStatus.Registered);
        servers.suspend(id, "");
        servers.approve(id);
        _expectStatus(id, ServerStatus.Active);
        servers.approve(id);
        servers.suspend(id, "");
        _expectStatus(id, ServerStatus.Suspended);
        servers.suspend(id, "");

        _leave(id);
        _expectStatus(id, ServerStatus.Leaving);
        servers.approve(id);
        vm.prank(operator);
        _expectStatus(id, ServerStatus.Leaving);
        servers.announceLeave(id);
        vm.warp(block.timestamp + UNBONDING_DELAY);
        vm.prank(operator);
        servers.withdrawBond(id);
        _expectStatus(id, ServerStatus.Left);
        servers.approve(id);
        vm.prank(operator);
        _expectStatus(id, ServerStatus.Left);
        servers.setEndpoint(id, "tls", "https://b");
    }

    function test_AnnounceLeave_OnlyTheOperator() public {
        uint32 id = _register(SECRET);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotOperator.selector, id, address(this)));
        servers.announceLeave(id);
    }

    function test_SetEndpoint_RotatesTheCertificate() public {
        uint32 id = _register(SECRET);
        vm.expectEmit(address(servers));
        emit IServerRegistry.ServerEndpointChanged(id, "new", "https://b:2");
        vm.prank(operator);
        servers.setEndpoint(id, "new", "https://b:2");
        assertEq(servers.server(id).tlsFingerprint, "new");

        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotOperator.selector, id, address(this)));
        servers.setEndpoint(id, "new", "https://b:2");
        _expect(abi.encodeWithSelector(IServerRegistry.BadEndpoint.selector, 0));
        servers.setEndpoint(id, "new", "");
        _expect(abi.encodeWithSelector(IServerRegistry.MissingTlsFingerprint.selector));
        servers.setEndpoint(id, 0, "https://b:2");
    }

    // -------------------------------------------------------------------------------------------- active set

    /// @dev Against a model: the set as a list of ids with swap-and-pop, packed by abi.encodePacked.
    function testFuzz_ActiveSet_IsThatOfTheModel(uint256 seed) public {
        addServers(21);
        uint32[] memory model = new uint32[](21);
        uint256 length = 21;
        for (uint32 i; i < 21; ++i) {
            model[i] = i + 1;
        }
        for (uint256 step; step < 12; ++step) {
            uint256 position = uint256(keccak256(abi.encode(seed, step))) % length;
            servers.suspend(model[position], "");
            model[position] = model[--length];
            if (step % 4 == 3) {
                for (uint32 id = 1; id <= 21; ++id) {
                    if (servers.isActive(id)) continue;
                    servers.approve(id);
                    model[length++] = id;
                    break;
                }
            }
            bytes memory packed;
            for (uint256 i; i < length; ++i) {
                packed = abi.encodePacked(packed, model[i]);
            }
            assertEq(servers.activeSet(ServerKind.Online), packed);
        }
    }

    function test_ActiveSet_KindsAreApart() public {
        servers.approve(registerServer(operator, ServerKind.Offline, 1 ether));
        servers.approve(registerServer(operator, ServerKind.Online, 1 ether));
        assertEq(servers.activeSet(ServerKind.Offline), hex"00000001");
        assertEq(servers.activeSet(ServerKind.Online), hex"00000002");
    }

    function test_ActiveSet_IsBounded() public {
        addServers(256);
        uint32 id = _register(SECRET);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.ActiveSetFull.selector, 256));
        servers.approve(id);
        servers.suspend(256, "");
        servers.approve(id);
        assertEq(servers.activeSet(ServerKind.Online).length, 4 * 256);
    }

    function test_DrawSeats_OverAFullSetStaysBounded() public {
        // The dearest draw: all candidates are visited and refused.
        address one = makeAddr("one");
        for (uint256 i; i < 256; ++i) {
            addServer(one, 1 ether);
        }
        bytes memory set = servers.activeSet(ServerKind.Online);
        uint256 before = gasleft();
        vm.prank(address(keys));
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotEnoughServers.selector, 1, 4));
        servers.drawSeats("seed", set, new uint32[](0), 4, 4, 1, address(0));
        assertLt(before - gasleft(), 3_000_000);
    }

    function test_TakeSeats_OfServersThatMayHaveOneOrNone() public {
        addServers(3);
        uint32 offline = registerServer(operator, ServerKind.Offline, 10 ether);
        servers.approve(offline);
        vm.startPrank(address(keys));
        vm.expectEmit(address(servers));
        emit IServerRegistry.SeatsChanged(3, 1);
        vm.expectEmit(address(servers));
        emit IServerRegistry.SeatsChanged(1, 1);
        servers.takeSeats(_pair(3, 1));

        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotOnline.selector, offline));
        servers.takeSeats(_pair(1, offline));
        vm.expectRevert(
            abi.encodeWithSelector(IServerRegistry.MemberNotActive.selector, 9, ServerStatus.None)
        );
        servers.takeSeats(_pair(1, 9));
        vm.stopPrank();
        servers.suspend(2, "test");
        vm.expectRevert(
            abi.encodeWithSelector(IServerRegistry.MemberNotActive.selector, 2, ServerStatus.Suspended)
        );
        vm.prank(address(keys));
        servers.takeSeats(_pair(1, 2));
        assertEq(servers.server(1).seats, 1, "of a list that fails none is taken");
    }

    function _pair(uint32 a, uint32 b) private pure returns (uint32[] memory list) {
        list = new uint32[](2);
        (list[0], list[1]) = (a, b);
    }

    function testFuzz_Seats_OnlyTheKeyRegistryMovesThem(address caller) public {
        vm.assume(caller != address(keys));
        vm.startPrank(caller);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotKeyRegistry.selector, caller));
        servers.drawSeats("seed", hex"00000001", new uint32[](0), 1, 1, 1, address(0));
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotKeyRegistry.selector, caller));
        servers.takeSeats(new uint32[](0));
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotKeyRegistry.selector, caller));
        servers.freeSeats(new uint32[](0));
    }

    function test_Seats_EveryMoveIsAnEvent() public {
        addServers(1);
        vm.startPrank(address(keys));
        vm.expectEmit(address(servers));
        emit IServerRegistry.SeatsChanged(1, 1);
        uint32[] memory drawn = servers.drawSeats("seed", hex"00000001", new uint32[](0), 1, 1, 1, address(0));
        vm.expectEmit(address(servers));
        emit IServerRegistry.SeatsChanged(1, 0);
        servers.freeSeats(drawn);
    }

    function test_ActiveSigners_InOrderAndOnlyOfActiveServers() public {
        addServers(4);
        uint32[] memory list = ids(3, 1, 4, 2);
        address[] memory signers = servers.activeSigners(list);
        for (uint256 i; i < 4; ++i) {
            assertEq(signers[i], servers.server(list[i]).signer);
        }
        list[2] = 9;
        vm.expectRevert(
            abi.encodeWithSelector(IServerRegistry.MemberNotActive.selector, 9, ServerStatus.None)
        );
        servers.activeSigners(list);
    }

    // ------------------------------------------------------------------------------------------- governance

    function testFuzz_Governance_Only(address caller) public {
        vm.assume(caller != address(this));
        uint32 id = _register(SECRET);
        bytes memory refused =
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, caller);
        vm.startPrank(caller);
        vm.expectRevert(refused);
        servers.approve(id);
        vm.expectRevert(refused);
        servers.suspend(id, "");
        vm.expectRevert(refused);
        servers.setBondParameters(1 ether, 1 ether);
    }

    function testFuzz_SetBondParameters_WithinTheirBounds(uint96 minBond, uint96 seatBond) public {
        uint96 bad = _outside(minBond) ? minBond : seatBond;
        if (_outside(bad)) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    IServerRegistry.ParameterOutOfBounds.selector, bad, 0.1 ether, 100 ether
                )
            );
        } else {
            vm.expectEmit(address(servers));
            emit IServerRegistry.BondParametersChanged(minBond, seatBond);
        }
        servers.setBondParameters(minBond, seatBond);
        assertEq(servers.minBond(), _outside(bad) ? MIN_BOND : minBond);
        assertEq(servers.seatBond(), _outside(bad) ? SEAT_BOND : seatBond);
    }

    function testFuzz_SetBondParameters_InsideTheirBounds(uint96 minBond, uint96 seatBond) public {
        minBond = uint96(bound(minBond, 0.1 ether, 100 ether));
        seatBond = uint96(bound(seatBond, 0.1 ether, 100 ether));
        servers.setBondParameters(minBond, seatBond);
        assertEq(servers.minBond(), minBond);
        assertEq(servers.seatBond(), seatBond);
    }

    function test_Deployment_RefusesABondLockedForEver() public {
        vm.expectRevert(
            abi.encodeWithSelector(IServerRegistry.ParameterOutOfBounds.selector, 365 days + 1, 0, 365 days)
        );
        new ServerRegistry(address(manager), address(keys), address(court), MIN_BOND, SEAT_BOND, 365 days + 1);
    }

    function test_Views_AreThoseOfTheDeployment() public view {
        assertEq(servers.KEY_REGISTRY(), address(keys));
        assertEq(servers.UNBONDING_DELAY(), UNBONDING_DELAY);
        assertEq(servers.ACTIVE_SET_CAPACITY(), 256);
        assertEq(servers.serverCount(), 0);
        assertEq(servers.minBond(), MIN_BOND);
        assertEq(servers.seatBond(), SEAT_BOND);
        assertEq(servers.authority(), address(manager));
        assertEq(uint8(servers.server(5).status), uint8(ServerStatus.None));
        assertEq(servers.serverOfSigner(address(5)), 0);
    }

    // ---------------------------------------------------------------------------------------------- internal

    function _register(uint256 secret) private returns (uint32) {
        bytes memory proof = signerProof(secret, operator);
        vm.prank(operator);
        return
            servers.register{value: MIN_BOND}(vm.addr(secret), "tls", ServerKind.Online, "https://a", proof);
    }

    function _leave(uint32 id) private {
        vm.prank(operator);
        servers.announceLeave(id);
    }

    function _proofBy(uint256 secret, address account, address signer) private view returns (bytes memory) {
        return signerProofBy(address(servers), secret, account, signer);
    }

    function _split(bytes memory signature) private pure returns (bytes32 r, bytes32 s, uint8 v) {
        assembly {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
            v := byte(0, mload(add(signature, 0x60)))
        }
    }

    function _outside(uint96 value) private pure returns (bool) {
        return value < 0.1 ether || value > 100 ether;
    }

    /// @dev The next call comes from the operator and reverts so.
    function _expect(bytes memory reason) private {
        vm.prank(operator);
        vm.expectRevert(reason);
    }

    function _expectStatus(uint32 id, ServerStatus status) private {
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.WrongServerStatus.selector, id, status));
    }
}
