// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";

/// @notice Gas of every external function of both registries as whole transactions: FOUNDRY_PROFILE=snapshot (via-IR,
/// isolate). Skipped elsewhere, for other code would be measured.
contract RegistryGasTest is RegistryFixture {
    string private constant SERVERS = "ServerRegistry";
    string private constant KEYS = "KeyRegistry";

    function setUp() public {
        vm.skip(keccak256(bytes(vm.envOr("FOUNDRY_PROFILE", string("")))) != keccak256("snapshot"));
        deployRegistries();
    }

    function test_Sizes() public {
        vm.snapshotValue(SERVERS, "runtime bytes", address(servers).code.length);
        vm.snapshotValue(KEYS, "runtime bytes", address(keys).code.length);
        // EIP-170
        assertLe(address(servers).code.length, 24_576);
        assertLe(address(keys).code.length, 24_576);
    }

    function test_Gas_Register() public {
        addServers(2);
        uint256 secret = 0xa11ce;
        address operator = makeAddr("operator");
        bytes memory proof = signerProof(secret, operator);
        vm.deal(operator, 1 ether);
        vm.prank(operator);
        servers.register{value: 1 ether}(
            vm.addr(secret), keccak256("tls"), ServerKind.Online, "https://server-3.example.org:9000", proof
        );
        assertLe(vm.snapshotGasLastCall(SERVERS, "register third"), 160_000);

        servers.approve(3);
        vm.snapshotGasLastCall(SERVERS, "approve third");
        servers.addBond{value: 1 ether}(3);
        vm.snapshotGasLastCall(SERVERS, "addBond");
        vm.prank(operator);
        servers.setEndpoint(3, keccak256("new tls"), "https://server-3.example.org:9001");
        vm.snapshotGasLastCall(SERVERS, "setEndpoint");
        servers.suspend(3, "answers late");
        vm.snapshotGasLastCall(SERVERS, "suspend");
        vm.prank(operator);
        servers.announceLeave(3);
        vm.snapshotGasLastCall(SERVERS, "announceLeave");
        vm.warp(block.timestamp + UNBONDING_DELAY);
        vm.prank(operator);
        servers.withdrawBond(3);
        vm.snapshotGasLastCall(SERVERS, "withdrawBond");
        servers.setBondParameters(2 ether, 1 ether);
        vm.snapshotGasLastCall(SERVERS, "setBondParameters");
        keys.setCeremonyWindow(1 hours);
        vm.snapshotGasLastCall(KEYS, "setCeremonyWindow");
        keys.addConsumer(address(3));
        vm.snapshotGasLastCall(KEYS, "addConsumer");
    }

    function test_Gas_3Of4() public {
        addServers(6);
        assertLe(_life(3, 4, "3-of-4"), 215_000);
    }

    function test_Gas_7Of10() public {
        addServers(16);
        assertLe(_life(7, 10, "7-of-10"), 345_000);
    }

    function test_Gas_11Of16() public {
        addServers(20);
        _life(11, 16, "11-of-16");
    }

    function test_Gas_Restart() public {
        addServers(6);
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        vm.warp(keys.key(c.keyId).mark + 1);
        keys.restart(c.keyId, c.committee, 0);
        vm.snapshotGasLastCall(KEYS, "restart 3-of-4, same committee");
        servers.suspend(c.committee[0], "silent");
        vm.warp(keys.key(c.keyId).mark + 1);
        keys.restart(c.keyId, c.committee, 0);
        vm.snapshotGasLastCall(KEYS, "restart 3-of-4, one replaced");
        uint32[] memory kept = new uint32[](3);
        (kept[0], kept[1], kept[2]) = (c.committee[1], c.committee[2], c.committee[3]);
        consumer.retire(c.keyId, false);
        keys.freeSeatsOfUnfinished(c.keyId, kept, keccak256(servers.activeSet(ServerKind.Online)));
        vm.snapshotGasLastCall(KEYS, "freeSeatsOfUnfinished, three kept");
    }

    function _life(uint8 threshold, uint8 members, string memory name) private returns (uint256 finalised) {
        // A key before, so that counters are not written for the first time.
        makeKey(threshold, members, 1);
        Ceremony memory c = request(threshold, members);
        // Through the consumer: its own 10,000 or so are in it.
        vm.snapshotGasLastCall(KEYS, string.concat("request ", name));
        reachSeed(c, "randao");
        uint256 state = vm.snapshotState();
        draw(c);
        vm.revertToState(state);
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
        vm.snapshotGasLastCall(KEYS, string.concat("draw ", name));
        runDkg(c, 2);
        finalise(c);
        finalised = vm.snapshotGasLastCall(KEYS, string.concat("finalise ", name));
        consumer.order(c.keyId, "root");
        vm.snapshotGasLastCall(KEYS, "order");
        consumer.retire(c.keyId, false);
        vm.snapshotGasLastCall(KEYS, "retire");
        vm.warp(keys.key(c.keyId).mark);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        vm.snapshotGasLastCall(KEYS, string.concat("freeSeats ", name));
    }
}
